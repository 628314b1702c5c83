package supervisor

import (
	"fmt"

	"keyd/supervisor/child"
)

// told is what the service manager knows.
type told struct {
	ready     bool
	reloading bool
	stopping  bool
	status    string
	ticks     int // until the next sign of life
}

// tellManager tells the service manager what has changed. A manager that cannot be told
// is no reason to stop.
func (s *supervisor) tellManager() {
	if s.Notify == nil {
		return
	}
	var lines []string
	if s.greeted && !s.told.ready {
		s.told.ready = true
		lines = append(lines, "READY=1")
	}
	if s.told.ready && s.told.reloading != s.reload.pending {
		s.told.reloading = s.reload.pending
		if s.reload.pending {
			lines = append(lines, "RELOADING=1", s.Notify.Now())
		} else {
			lines = append(lines, "READY=1")
		}
	}
	if s.stage != running && !s.told.stopping {
		s.told.stopping = true
		lines = append(lines, "STOPPING=1")
	}
	if status := s.status(); status != s.told.status {
		s.told.status = status
		lines = append(lines, "STATUS="+status)
	}
	s.notify(lines...)
}

// signOfLife comes with every tick, and so from the loop that does everything. It is
// withheld while the service does not serve.
func (s *supervisor) signOfLife() {
	interval := s.Notify.Watchdog()
	if interval <= 0 || s.stage != running || s.front.phase != child.PhaseReady || s.modulesIn(child.PhaseReady) == 0 {
		return
	}
	if s.told.ticks--; s.told.ticks > 0 {
		return
	}
	s.notify("WATCHDOG=1")
	// Three in the manager's time: one that is late must not end the service.
	s.told.ticks = int(interval / 3 / s.time.tick)
}

func (s *supervisor) notify(lines ...string) {
	if err := s.Notify.Send(lines...); err != nil {
		s.Logger.Warn("the service manager cannot be told", "error", err)
	}
}

// status is one line for people.
func (s *supervisor) status() string {
	text := fmt.Sprintf("front %s, %d of %d modules ready", s.front.phase, s.modulesIn(child.PhaseReady), len(s.modules))
	switch {
	case s.stage != running:
		return "stopping: " + text
	case s.reload.pending:
		return "reloading: " + text
	case s.reload.kept:
		return "the last reload failed, see the log; " + text
	}
	return text
}
