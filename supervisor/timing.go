package supervisor

import "time"

// timing is every duration that decides about a child. Tests shorten some.
type timing struct {
	tick        time.Duration // between pings
	missed      int           // unanswered pings that kill
	starting    int           // ticks a child may take to become ready; a front only while there is a module
	steady      int           // ticks of readiness that wipe out earlier failures
	firstPause  time.Duration // before the second restart; the first is immediate
	longest     time.Duration
	neverReady  int           // starts in a row without readiness that end everything, if there never was any
	hangup      int           // ticks a child may live on after it closed its control socket
	moduleStop  time.Duration // modules have nothing to drain once the front has gone
	oneShotStop time.Duration // from SIGTERM to SIGKILL
}

var standard = timing{
	tick:        250 * time.Millisecond,
	missed:      4,
	starting:    80,
	steady:      40,
	firstPause:  100 * time.Millisecond,
	longest:     5 * time.Second,
	neverReady:  5,
	hangup:      2,
	moduleStop:  3 * time.Second,
	oneShotStop: 2 * time.Second,
}

// pause is how long to wait before a child that has failed that many times since it
// was last steady is started again.
func (t timing) pause(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	d := t.firstPause
	for range failures - 2 {
		if d *= 2; d >= t.longest {
			return t.longest
		}
	}
	return min(d, t.longest)
}
