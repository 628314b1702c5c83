//go:build profile

package confine

// A front that is built for profiling sets timers on its threads.
func init() { frontAllowed = append(frontAllowed, frontProfiled...) }
