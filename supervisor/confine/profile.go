//go:build profile

package confine

// A front that is built for profiling sets timers on its threads.
func init() {
	frontAllowed = append(frontAllowed, "timer_create", "timer_settime", "timer_delete", "setitimer")
}
