package supervisor

import (
	"context"
	"errors"
	"os"
	"syscall"

	"keyd/supervisor/pinfile"
)

// RunOnce runs the unlock and provision commands and nothing else: neither front nor
// module is started. Only Unlock, Provision, Logger and Stderr of the configuration
// matter. It returns what the provision command wrote, a memory file, which the caller
// closes. Like [Run] it leaves the process without core files and not dumpable.
func RunOnce(ctx context.Context, config Config) (output *os.File, err error) {
	s, err := newOnce(config)
	if err != nil {
		return nil, err
	}
	defer s.release()
	if s.pin, s.pinMemory, err = pinfile.Create(); err != nil {
		return nil, err
	}
	if err := s.launcher.oneShot(ctx, "unlock", &s.Unlock, append([]grant{{"--pin-fd", s.pin}}, s.Unlock.inherited()...), syscall.SysProcAttr{}, s.time.oneShotStop); err != nil {
		return nil, err
	}
	s.lockable = mayLock()
	return s.provision(ctx)
}

// RunAlone runs one command and nothing else, without the token's PIN: Provision, of a
// configuration in which only that, Logger and Stderr matter. It returns what the command
// wrote, a memory file, which the caller closes. Like [Run] it leaves the process without core
// files and not dumpable.
func RunAlone(ctx context.Context, config Config) (output *os.File, err error) {
	s, err := newOnce(config)
	if err != nil {
		return nil, err
	}
	defer s.release()
	return s.alone(ctx, nil, syscall.SysProcAttr{})
}

// newOnce returns a supervisor of one-shot commands, in a process that is shut. The caller
// releases it.
func newOnce(config Config) (*supervisor, error) {
	if config.Provision == nil || config.Logger == nil {
		return nil, errors.New("supervisor: nothing to run, or no logger")
	}
	if config.Stderr == nil {
		config.Stderr = os.Stderr
	}
	if err := shut(); err != nil {
		return nil, err
	}
	s := &supervisor{Config: config, time: standard, events: make(chan event), over: make(chan struct{})}
	var err error
	if s.launcher, err = newLauncher(config.Stderr); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}
