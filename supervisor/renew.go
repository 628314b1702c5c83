package supervisor

import (
	"context"
	"errors"
	"syscall"
	"time"

	"keyd/supervisor/child"
)

// renewLimit is how long a renew command may take.
const renewLimit = 2 * time.Minute

// watchRenew runs the renew command at intervals, on a goroutine of its own: nothing waits
// for it.
func (s *supervisor) watchRenew() {
	if s.Renew == nil {
		return
	}
	var renewed []Reloadable
	for _, f := range s.Files {
		if f.Renewed {
			renewed = append(renewed, f)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.tasks.Go(func() {
		<-s.over
		cancel()
	})
	s.tasks.Go(func() {
		ticker := time.NewTicker(s.RenewEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if changed := s.renew(ctx); len(renewed) > 0 && (changed || s.unused()) {
				s.bring(renewed, true)
			}
		}
	})
}

// renew runs the command once, and reports whether it has replaced files of the front's.
func (s *supervisor) renew(ctx context.Context) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	// Ctrl-C on the terminal is not for it.
	err := s.launcher.oneShot(ctx, "renew", s.Renew, s.Renew.inherited(), syscall.SysProcAttr{Setpgid: true}, s.time.oneShotStop)
	var end *EndError
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &end) && end.code == child.ExitRenewed:
		return true
	case errors.As(err, &end) && end.code == child.ExitRenewedInPart:
		changed = true
	}
	s.Logger.Warn("not everything could be renewed; it is tried again, and everything goes on", "cause", err, "pause", s.RenewEvery)
	return changed
}

// unused asks whether the front has kept what it had when it was last brought what had been
// renewed.
func (s *supervisor) unused() bool {
	answer := make(chan bool, 1)
	s.post(func() { answer <- s.reload.unused && !s.reload.pending })
	select {
	case unused := <-answer:
		return unused
	case <-s.over:
		return false
	}
}
