package velocity

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// tickTime is the time of a tick.
const (
	tickTime   = 10 * time.Second
	tickMillis = uint64(tickTime / time.Millisecond)
)

// maxTick is the latest tick that a file may begin with: the year 3000 or so.
const maxTick = 3_250_000_000 // below 1<<32, and its milliseconds below 1<<48

// Clock tells the time.
type Clock struct {
	// Wall is the time of day. Open asks for it, once after a start of the machine.
	Wall func() time.Time
	// SinceBoot is the time since the machine started, the same in all processes. It
	// never steps.
	SinceBoot func() time.Duration
}

// SystemClock returns the machine's clock.
func SystemClock() (Clock, error) {
	// CLOCK_BOOTTIME is a system call. So it is read once, with Go's monotonic time
	// right before and after it, and that is what runs on.
	var boot unix.Timespec
	var began time.Time
	for range 10 { // for as long as something comes between the two
		began = time.Now()
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
			return Clock{}, fmt.Errorf("read the time since the machine started: %w", err)
		}
		if time.Since(began) < time.Millisecond {
			break
		}
	}
	start := time.Duration(boot.Nano())
	return Clock{Wall: time.Now, SinceBoot: func() time.Duration { return start + time.Since(began) }}, nil
}

// millis returns the whole milliseconds in a duration.
func millis(d time.Duration) uint64 { return uint64(max(d, 0) / time.Millisecond) }

// now returns the present tick. No process sees an earlier one afterwards.
func (t *Table) now() uint64 {
	own := (t.base + millis(t.clock.SinceBoot())) / tickMillis
	return raiseTo(&t.header.latest, own)
}
