package supervisor

import (
	"time"

	"keyd/supervisor/child"
)

// stage is how far the end has come.
type stage int

const (
	running stage = iota
	stoppingFront
	stoppingModules
)

// stop begins the end. The first reason given is the one that Run returns.
func (s *supervisor) stop(reason error) {
	if s.stage != running {
		return
	}
	if reason != nil {
		s.err = reason
		s.Logger.Error("everything stops", "error", reason)
	}
	s.stage = stoppingFront
	for _, k := range s.kids() {
		if k.phase == child.PhaseWaiting {
			s.enter(k, child.PhaseEnded)
		}
	}
	s.dismiss(s.DrainTimeout, s.front)
}

// advanceStop goes on to the modules when the front has gone, and reports whether
// everything has.
func (s *supervisor) advanceStop() bool {
	if s.stage == stoppingFront && s.front.process == nil {
		s.stage = stoppingModules
		s.dismiss(s.time.moduleStop, s.modules...)
	}
	if s.stage != stoppingModules {
		return false
	}
	for _, m := range s.modules {
		if m.process != nil {
			return false
		}
	}
	return true
}

// dismiss asks children to end, and kills those that have not after the patience. One
// that is not ready yet has nothing to drain.
func (s *supervisor) dismiss(patience time.Duration, kids ...*kid) {
	asked := false
	for _, k := range kids {
		switch k.phase {
		case child.PhaseStarting:
			s.kill(k, "stopped before it was ready")
		case child.PhaseReady:
			s.enter(k, child.PhaseStopping)
			s.say(k, child.Message{Type: child.TypeStop})
			asked = true
		}
	}
	if !asked {
		return
	}
	s.tasks.Go(func() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-timer.C:
			s.post(func() {
				for _, k := range kids {
					s.kill(k, "did not stop in time")
				}
			})
		case <-s.over:
		}
	})
}
