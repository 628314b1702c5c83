package front

import (
	"context"
	"errors"
	"time"

	"keyd/audit"
)

// checkLog refuses to serve with an audit log that is not the one that the modules have signed.
// If they cannot say, the service goes on, and it is looked at with the next checkpoint.
func (f *front) checkLog() error {
	ctx, cancel := context.WithTimeout(context.Background(), f.OperationTimeout)
	defer cancel()
	err := f.keeper.Check(ctx)
	if errors.Is(err, audit.ErrCut) {
		return err
	}
	if err != nil {
		f.Log.Warn("the modules do not say what they have signed of the audit log", "cause", err)
	}
	return nil
}

// keepCheckpoints has checkpoints made, from when there is a module to ask until ctx ends.
func (f *front) keepCheckpoints(ctx context.Context) {
	look := time.NewTicker(settleInterval)
	defer look.Stop()
	for f.modules.Attached() == 0 {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
	f.keeper.Run(ctx, f.OperationTimeout)
}

// lastCheckpoint covers what was written up to a clean stop.
func (f *front) lastCheckpoint() {
	ctx, cancel := context.WithTimeout(context.Background(), f.OperationTimeout)
	defer cancel()
	_ = f.keeper.Make(ctx) // who could not be asked is in the log of the service
}
