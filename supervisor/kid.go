package supervisor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
)

// kid is the place of one front or module, whichever process fills it at the moment.
type kid struct {
	role    string
	index   int
	command *Command

	phase    child.Phase
	since    time.Time
	due      bool     // waiting, and the pause is over
	process  *process // nil while waiting or ended
	restarts int
	lastExit string

	failures   int  // since it was last steady
	neverReady int  // starts in a row
	wasReady   bool // the present process
	everReady  bool // any process in this Run
	steady     bool // the present process

	ticks    int    // in the present phase
	sent     uint32 // last ping
	answered uint32 // last pong
	hungUp   bool
	hangup   int // ticks since
}

func (k *kid) String() string {
	if k.role == child.RoleFront {
		return k.role
	}
	return k.role + " " + strconv.Itoa(k.index)
}

// enter puts a kid into a phase.
func (s *supervisor) enter(k *kid, phase child.Phase) {
	k.phase, k.since, k.ticks = phase, time.Now(), 0
	s.changed = true
}

// startDue starts who is to be started. While no module has shown that the PIN is
// right, one module tries at a time.
func (s *supervisor) startDue() {
	for _, k := range s.kids() {
		if k.phase != child.PhaseWaiting || !k.due {
			continue
		}
		if k.role == child.RoleModule && s.modulesIn(child.PhaseReady) == 0 && s.modulesIn(child.PhaseStarting) > 0 {
			continue
		}
		k.due = false
		if err := s.start(k); err != nil {
			s.Logger.Error("child cannot be started", "child", k.String(), "error", err)
			s.ended(k, err.Error(), 0)
		}
	}
}

func (s *supervisor) modulesIn(phase child.Phase) (n int) {
	for _, m := range s.modules {
		if m.phase == phase {
			n++
		}
	}
	return n
}

// start runs a process in a kid's place.
func (s *supervisor) start(k *kid) error {
	if k.lastExit != "" {
		k.restarts++
	}
	k.wasReady, k.steady, k.sent, k.answered, k.hungUp, k.hangup = false, false, 0, 0, false, 0
	ours, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	defer theirs.Close() //nolint:errcheck // a duplicate descriptor; nothing is buffered
	defer ours.Close()   //nolint:errcheck // a duplicate descriptor; nothing is buffered
	conn, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	control, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.Join(errors.New("control socket is not a Unix socket"), conn.Close())
	}
	p, err := s.launch(k, theirs)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	k.process = &process{Process: p, control: control}
	s.enter(k, child.PhaseStarting)
	s.Logger.Info("child started", "child", k.String(), "pid", p.Pid, "restarts", k.restarts)
	s.watch(k, k.process)
	if k == s.front {
		for _, m := range s.modules {
			s.join(m)
		}
	}
	return nil
}

// launch gives each role its descriptors, and no other.
func (s *supervisor) launch(k *kid, control *os.File) (*os.Process, error) {
	grants := []grant{{"--control-fd", control}}
	if k.role == child.RoleModule {
		grants = append(grants, grant{"--pin-fd", s.pin})
		return s.launcher.start(k.command, append(grants, k.command.inherited()...), s.moduleAttributes(), "--module", strconv.Itoa(k.index))
	}
	if err := s.mend(s.listening); err != nil {
		return nil, err
	}
	grants = append(grants, grant{"--listen-fd", s.listening.file})
	if s.admin != nil {
		if err := s.mend(s.admin); err != nil {
			return nil, err
		}
		grants = append(grants, grant{"--admin-fd", s.admin.file})
	}
	if s.web != nil {
		if err := s.mend(s.web); err != nil {
			return nil, err
		}
		grants = append(grants, grant{"--web-fd", s.web.file})
	}
	if s.provisioned != nil {
		if _, err := s.provisioned.Seek(0, 0); err != nil {
			return nil, err
		}
		grants = append(grants, grant{"--provision-fd", s.provisioned})
	}
	return s.launcher.start(k.command, append(grants, k.command.inherited()...), syscall.SysProcAttr{Setpgid: true})
}

// watch reports what a process says and how it ends.
func (s *supervisor) watch(k *kid, p *process) {
	s.tasks.Go(func() {
		p.listen(
			func(kind byte, seq uint32) { s.post(func() { s.heard(k, p, kind, seq) }) },
			func(reason error) {
				s.post(func() {
					if k.process != p {
						return
					}
					if reason != nil {
						s.kill(k, reason.Error())
					}
					k.hungUp = true // it may be ending by itself, with a status worth having
				})
			})
	})
	s.tasks.Go(func() {
		state, err := p.Wait()
		s.post(func() {
			_ = p.control.Close()
			k.process = nil
			if err != nil {
				s.ended(k, err.Error(), 0)
				return
			}
			s.ended(k, state.String(), state.ExitCode())
		})
	})
}

// heard applies a signal from a process.
func (s *supervisor) heard(k *kid, p *process, kind byte, seq uint32) {
	if k.process != p || k.phase == child.PhaseStopping {
		return
	}
	switch {
	case kind == child.SignalReady && !k.wasReady:
		s.ready(k)
	case kind == child.SignalPong && int32(seq-k.answered) > 0 && int32(k.sent-seq) >= 0:
		k.answered = seq
	case (kind == child.SignalLoaded || kind == child.SignalKept) && k == s.front && s.reload.answered(seq):
		s.reloaded(seq, kind == child.SignalLoaded)
	default:
		s.kill(k, errProtocol.Error())
	}
}

// ready takes a child into service.
func (s *supervisor) ready(k *kid) {
	k.wasReady, k.everReady, k.neverReady = true, true, 0
	s.Logger.Info("child ready", "child", k.String(), "pid", k.process.Pid, "took", time.Since(k.since).Round(time.Millisecond))
	s.enter(k, child.PhaseReady)
	if k.role == child.RoleModule {
		s.join(k)
	} else if s.provisioned != nil {
		_ = s.provisioned.Close()
		s.provisioned = nil
	}
	if !s.greeted && s.stage == running && s.front.phase == child.PhaseReady && s.modulesIn(child.PhaseReady) > 0 {
		s.greeted = true
		if s.OnReady != nil {
			go s.OnReady(s.listening.address)
		}
	}
}

// join gives the front and a module a new socket between them, once the module can
// serve and there is a front.
func (s *supervisor) join(m *kid) {
	f := s.front
	if m.phase != child.PhaseReady || (f.phase != child.PhaseStarting && f.phase != child.PhaseReady) {
		return
	}
	a, b, err := socketPair(unix.SOCK_STREAM)
	if err != nil {
		s.kill(m, "no socket to the front: "+err.Error())
		return
	}
	defer a.Close() //nolint:errcheck // a duplicate descriptor; nothing is buffered
	defer b.Close() //nolint:errcheck // a duplicate descriptor; nothing is buffered
	message := child.Message{Type: child.TypeChannel, Module: m.index}
	s.say(m, message, a)
	s.say(f, message, b)
}

// say sends a child a message. A child whose socket is full or gone is killed.
func (s *supervisor) say(k *kid, m child.Message, files ...*os.File) {
	err := k.process.say(m, files...)
	switch {
	case err == nil:
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		k.hungUp = true
	default:
		s.kill(k, "cannot be told anything: "+err.Error())
	}
}

// kill ends a process at once; its end is reported like any other.
func (s *supervisor) kill(k *kid, why string) {
	if k.process == nil {
		return
	}
	if k.phase != child.PhaseStopping {
		s.enter(k, child.PhaseStopping)
	}
	s.Logger.Warn("child killed", "child", k.String(), "pid", k.process.Pid, "why", why)
	_ = k.process.Kill() // it may just have ended
}

// ended decides what follows the end of a process.
func (s *supervisor) ended(k *kid, how string, status int) {
	k.lastExit = how
	if k == s.front {
		s.reload.forget() // the next front reads the files as they are
	}
	if s.stage != running {
		s.enter(k, child.PhaseEnded)
		s.Logger.Info("child ended", "child", k.String(), "how", how)
		if status == ExitPermanent && s.err == nil && !s.served(k) {
			s.err = permanent(k, how)
		}
		return
	}
	if k.steady {
		k.failures = 0
	}
	k.failures++
	if !k.wasReady {
		k.neverReady++
	}
	switch {
	case status == ExitPermanent && !s.served(k):
		s.enter(k, child.PhaseEnded)
		s.stop(permanent(k, how))
	case status == ExitPermanent && k.role == child.RoleModule:
		s.retire(k, how)
	case k.neverReady >= s.time.neverReady && !s.served(k):
		s.enter(k, child.PhaseEnded)
		s.stop(&EndError{Child: k.String(), Status: how, Hint: fmt.Sprintf(
			"it did not become ready in %d starts in a row; its messages on standard error say why. Correct that and start keyd again", k.neverReady)})
	default:
		s.restart(k, how)
	}
}

// served reports whether the kid's role has been filled in this Run: by the front, or
// by any module. Configuration and PIN were right then. What says otherwise later may
// be a process that was taken over, and must not end the service.
func (s *supervisor) served(k *kid) bool {
	if k.role == child.RoleFront {
		return k.everReady
	}
	for _, m := range s.modules {
		if m.everReady {
			return true
		}
	}
	return false
}

// retire ends one module for good, because another start would try a refused PIN
// again. Everything ends with the last module.
func (s *supervisor) retire(k *kid, how string) {
	s.enter(k, child.PhaseEnded)
	end := permanent(k, how)
	if s.modulesIn(child.PhaseEnded) == len(s.modules) {
		s.stop(end)
		return
	}
	s.Logger.Error("module ended for good; the others serve on", "child", k.String(), "error", end)
}

func permanent(k *kid, how string) *EndError {
	return &EndError{Child: k.String(), Status: how, Permanent: true,
		Hint: "its own message above says what has to be corrected first; it is not tried again"}
}

// restart starts a process in the kid's place after the pause it deserves.
func (s *supervisor) restart(k *kid, how string) {
	pause := s.time.pause(k.failures)
	s.Logger.Warn("child ended; it is started again", "child", k.String(), "how", how, "pause", pause)
	s.enter(k, child.PhaseWaiting)
	if pause == 0 {
		k.due = true
		return
	}
	s.tasks.Go(func() {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
			s.post(func() { k.due = true })
		case <-s.over:
		}
	})
}
