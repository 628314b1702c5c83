package supervisor

import (
	"time"

	"keyd/supervisor/child"
)

// tick looks at every child, and pings those that are ready.
func (s *supervisor) tick() {
	s.signOfLife()
	for _, k := range s.kids() {
		if k.process == nil {
			continue
		}
		k.ticks++
		if k.hungUp {
			if k.hangup++; k.hangup == s.time.hangup {
				s.kill(k, "closed its control socket but lives on")
			}
			continue
		}
		if s.stage != running {
			continue // the stop has time limits of its own
		}
		switch k.phase {
		case child.PhaseStarting:
			if k == s.front && s.modulesIn(child.PhaseReady) == 0 {
				// It cannot become ready without a module, and is not to blame.
				k.ticks--
				continue
			}
			if k.ticks >= s.time.starting {
				s.kill(k, "not ready in time")
			}
		case child.PhaseReady:
			s.heartbeat(k)
		}
	}
}

// heartbeat pings a child or, if it owes too many answers, kills it.
func (s *supervisor) heartbeat(k *kid) {
	if k.ticks >= s.time.steady {
		k.steady = true
	}
	if int(k.sent-k.answered) >= s.time.missed {
		s.kill(k, "does not answer")
		return
	}
	k.sent++
	s.say(k, child.Message{Type: child.TypePing, Seq: k.sent})
}

// tellState sends the front how everything stands, when that has changed.
func (s *supervisor) tellState() {
	f := s.front
	if !s.changed || (f.phase != child.PhaseStarting && f.phase != child.PhaseReady) {
		return
	}
	s.changed = false
	state := &child.State{PINMemory: s.pinMemory}
	for _, k := range s.kids() {
		c := child.ChildState{Role: k.role, Index: k.index, Phase: k.phase, Restarts: k.restarts, LastExit: k.lastExit, Since: k.since.UTC().Truncate(time.Millisecond)}
		if k.process != nil {
			c.PID = k.process.Pid
		}
		state.Children = append(state.Children, c)
	}
	s.say(f, child.Message{Type: child.TypeState, State: state})
}
