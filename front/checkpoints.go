package front

import (
	"context"
	"errors"

	"keyd/audit"
)

// checkLog refuses to serve with an audit log that is not the one that the modules have signed,
// and has the first checkpoint made. If they cannot say, the service goes on, and it is looked
// at with the next one. It is called once.
func (f *front) checkLog() error {
	ctx, cancel := context.WithTimeout(context.Background(), f.OperationTimeout)
	defer cancel()
	err := f.keeper.Make(ctx)
	if errors.Is(err, audit.ErrCut) {
		return err
	}
	close(f.checked)
	return nil
}

// keepCheckpoints has checkpoints made, from when the log was checked until ctx ends.
func (f *front) keepCheckpoints(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-f.checked:
		f.keeper.Run(ctx, f.OperationTimeout)
	}
}

// lastCheckpoint covers what was written up to a clean stop.
func (f *front) lastCheckpoint() {
	ctx, cancel := context.WithTimeout(context.Background(), f.OperationTimeout)
	defer cancel()
	_ = f.keeper.Make(ctx) // who could not be asked is in the log of the service
}
