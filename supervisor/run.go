package supervisor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
	"keyd/supervisor/pinfile"
)

// Run unlocks the token, provisions, starts the front and the modules, and keeps them
// running until ctx ends or nothing more can be done. It then stops the front, which
// drains, then the modules, kills what remains, and returns when all have been waited
// for: nil after ctx has ended, otherwise the fault, an [*EndError] if a child caused it.
//
// The caller turns SIGTERM into the end of ctx. One Run at a time per process. Run
// leaves the process without core files and not dumpable, because it holds the
// descriptor of the PIN file: nobody of the same user can take it from here.
func Run(ctx context.Context, config Config) error {
	return run(ctx, config, standard)
}

func run(ctx context.Context, config Config, t timing) (err error) {
	if err := config.validate(); err != nil {
		return err
	}
	if err := shut(); err != nil {
		return err
	}
	if config.LongestPause > 0 {
		t.longest = config.LongestPause
	}
	s := &supervisor{Config: config, time: t, events: make(chan event), over: make(chan struct{})}
	defer s.release()
	if s.launcher, err = newLauncher(config.Stderr); err != nil {
		return err
	}
	if s.pin, s.pinMemory, err = pinfile.Create(); err != nil {
		return err
	}
	if s.pinMemory != pinfile.MemorySecret {
		s.Logger.Warn("the kernel has no memfd_secret: the token PIN waits in ordinary memory")
	}
	if err := s.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before anything ran
		}
		return err
	}
	return s.supervise(ctx)
}

// shut closes the process to others of the same user. Children inherit the limit; the
// rest they do for themselves.
func shut() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("supervisor: set RLIMIT_CORE: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("supervisor: PR_SET_DUMPABLE: %w", err)
	}
	return nil
}

// prepare does what comes before the first front.
func (s *supervisor) prepare(ctx context.Context) (err error) {
	if s.listening, err = bind(ctx, s.Listen); err != nil {
		return err
	}
	if s.Admin != "" {
		if s.admin, err = bind(ctx, s.Admin); err != nil {
			return err
		}
		if s.OnAdmin != nil {
			s.OnAdmin(s.admin.address)
		}
	}
	if s.Web != "" {
		if s.web, err = bind(ctx, s.Web); err != nil {
			return err
		}
	}
	// The parent's process group, because only that may read from the terminal.
	if err := s.launcher.oneShot(ctx, "unlock", &s.Unlock, append([]grant{{"--pin-fd", s.pin}}, s.Unlock.inherited()...), syscall.SysProcAttr{}, s.time.oneShotStop); err != nil {
		return err
	}
	s.lockable = mayLock()
	if s.Module.User == nil && os.Geteuid() == 0 {
		s.Logger.Warn("modules keep user 0; name users for front and modules to set them apart")
	}
	if s.Provision == nil {
		return nil
	}
	s.provisioned, err = s.provision(ctx)
	return err
}

// supervisor is the state of one Run. Only the goroutine of Run touches it; the others
// send it events.
type supervisor struct {
	Config
	time        timing
	launcher    *launcher
	pin         *os.File
	pinMemory   string
	listening   *bound
	admin       *bound   // nil where there is none
	web         *bound   // likewise
	provisioned *os.File // nil once a front has become ready
	lockable    bool     // the supervisor can hand CAP_IPC_LOCK on

	front   *kid
	modules []*kid
	changed bool // the front does not know the present state yet
	greeted bool // OnReady has been called
	stage   stage
	err     error // what ended everything
	reload  reload
	told    told

	events chan event
	over   chan struct{} // closed when nobody takes events any more
	tasks  sync.WaitGroup
}

// event is something that happened to a child, to be applied by the goroutine of Run.
type event func()

// release gives back everything; all children have been waited for.
func (s *supervisor) release() {
	close(s.over)
	s.tasks.Wait()
	if s.launcher != nil {
		s.launcher.close()
	}
	s.listening.close()
	s.admin.close()
	s.web.close()
	for _, f := range []*os.File{s.pin, s.provisioned} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// post hands an event to the goroutine of Run.
func (s *supervisor) post(e event) {
	select {
	case s.events <- e:
	case <-s.over:
	}
}

// supervise runs until every child has ended for good.
func (s *supervisor) supervise(ctx context.Context) error {
	s.front = &kid{role: child.RoleFront, command: &s.Front}
	for i := range s.Modules {
		s.modules = append(s.modules, &kid{role: child.RoleModule, index: i, command: &s.Module})
	}
	for _, k := range s.kids() {
		s.enter(k, child.PhaseWaiting)
		k.due = true
	}
	s.watchReload()
	s.watchRenew()
	ticker := time.NewTicker(s.time.tick)
	defer ticker.Stop()
	asked := ctx.Done()
	for {
		s.startDue()
		s.tellManager()
		s.tellState()
		if s.advanceStop() {
			return s.err
		}
		select {
		case e := <-s.events:
			e()
		case <-ticker.C:
			s.tick()
		case <-asked:
			asked = nil
			s.Logger.Info("stopping")
			s.stop(nil)
		}
	}
}

func (s *supervisor) kids() []*kid { return append([]*kid{s.front}, s.modules...) }

// moduleAttributes lets a module lock its memory although it runs under another user.
func (s *supervisor) moduleAttributes() syscall.SysProcAttr {
	sys := syscall.SysProcAttr{Setpgid: true}
	if s.lockable {
		sys.AmbientCaps = []uintptr{unix.CAP_IPC_LOCK}
	}
	return sys
}

// mayLock reports whether the supervisor has CAP_IPC_LOCK to hand on.
func mayLock() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&header, &sets[0]) != nil {
		return false
	}
	return sets[0].Permitted&(1<<unix.CAP_IPC_LOCK) != 0
}
