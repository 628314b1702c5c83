package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// oneShot runs a command to its end. If ctx ends first the command is told to stop,
// then killed, and the context's error is returned.
func (l *launcher) oneShot(ctx context.Context, name string, c *Command, grants []grant, sys syscall.SysProcAttr, patience time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Input != nil {
		grants = append(grants, grant{"--input-fd", c.Input})
	}
	p, err := l.start(c, grants, sys)
	if err != nil {
		return fmt.Errorf("start the %s process: %w", name, err)
	}
	type result struct {
		state *os.ProcessState
		err   error
	}
	ended := make(chan result, 1)
	go func() {
		state, err := p.Wait()
		ended <- result{state, err}
	}()
	select {
	case r := <-ended:
		if r.err != nil {
			return fmt.Errorf("wait for the %s process: %w", name, r.err)
		}
		if !r.state.Success() {
			return &EndError{Child: name, Status: r.state.String(), Permanent: r.state.ExitCode() == ExitPermanent, code: r.state.ExitCode(), Hint: "its own message on standard error says why"}
		}
		return nil
	case <-ctx.Done():
		_ = p.Signal(unix.SIGTERM) // it may just have ended
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			_ = p.Kill()
			<-ended
		}
		return ctx.Err()
	}
}

// provision runs the provision command and returns what it wrote: a memory file that
// nobody can change any more.
func (s *supervisor) provision(ctx context.Context) (*os.File, error) {
	return s.alone(ctx, []grant{{"--pin-fd", s.pin}}, s.moduleAttributes())
}

// alone is provision with these descriptors and attributes.
func (s *supervisor) alone(ctx context.Context, grants []grant, sys syscall.SysProcAttr) (*os.File, error) {
	fd, err := unix.MemfdCreate("keyd-provision", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("supervisor: create the provision output: %w", err)
	}
	out := os.NewFile(uintptr(fd), "provision")
	err = s.launcher.oneShot(ctx, "provision", s.Provision,
		append(append(grants, grant{"--output-fd", out}), s.Provision.inherited()...), sys, s.time.oneShotStop)
	if err == nil {
		_, err = unix.FcntlInt(out.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}
