package front

import (
	"context"
	"fmt"
	"sync"
	"time"

	"keyd/audit"
	"keyd/fault"
	"keyd/server"
)

// What the front does beside requests, so that what officers have decided takes effect. It may
// wait for a ceremony that is being carried out, as the loop that listens to the supervisor
// must not.

const (
	settleInterval = time.Second      // between attempts to bring the modules the register
	resealInterval = 2 * time.Second  // between looks for keys that older master keys seal
	purgeInterval  = 10 * time.Minute // between looks for keys that are to be deleted
	expireInterval = 10 * time.Second // between looks for injections that were not confirmed in time
	voidInterval   = time.Second      // between looks for voids whose time is over

	refreshInterval = 250 * time.Millisecond // between looks for what other nodes have changed
	reportInterval  = 2 * time.Second        // between signs that this node is there
)

// keepUp begins with it. What it returns ends it, and waits for the end; it may be called again.
func (f *front) keepUp(service *server.Server) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { f.reseal(ctx) })
	group.Go(func() { f.keepSettled(ctx) })
	if f.shared() {
		group.Go(func() { f.keepFresh(ctx) })
		group.Go(func() { f.keepReporting(ctx) })
	}
	group.Go(func() { f.keepExpiring(ctx) })
	group.Go(func() { f.keepExpiringVoids(ctx, service) })
	group.Go(func() { f.keepCheckpoints(ctx) })
	return func() { cancel(); group.Wait() }
}

// keepSettled settles again as long as that has failed: what was in the way, a module that did
// not answer in time, may be gone. It purges now and then.
func (f *front) keepSettled(ctx context.Context) {
	settle, purge := time.NewTicker(settleInterval), time.NewTicker(purgeInterval)
	defer settle.Stop()
	defer purge.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-settle.C:
			if f.modules.Attached() > 0 {
				f.settle(ctx)
			}
		case <-purge.C:
			f.purge(ctx)
		}
	}
}

// keepFresh takes up what other nodes change. Whoever fails at that for a while uses no key.
func (f *front) keepFresh(ctx context.Context) {
	look := time.NewTicker(refreshInterval)
	defer look.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if f.modules.Attached() == 0 {
			continue
		}
		err := f.refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && said != "":
			said = ""
			f.Log.Info("what other nodes change is taken up again")
		case err != nil && causeOf(err).Error() != said: // once for each cause
			said = causeOf(err).Error()
			f.Log.Error("what other nodes have changed is not taken up; soon no key is used", "cause", causeOf(err))
		}
	}
}

func (f *front) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*f.OperationTimeout)
	defer cancel()
	return f.officers.Refresh(ctx)
}

// keepReporting shows the other nodes that this one is there.
func (f *front) keepReporting(ctx context.Context) {
	tell := time.NewTicker(reportInterval)
	defer tell.Stop()
	for failed := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tell.C:
		}
		err := f.report(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			f.Log.Error("this node cannot report itself to the database; soon no key is used", "cause", causeOf(err))
		}
		failed = err != nil
	}
}

// report shows the other nodes that this one is there, and finds out whether the database still
// takes what is written.
func (f *front) report(ctx context.Context) error {
	why, _ := f.unsettled.Load().(string)
	if version, digest := f.officers.Waiting(); version != 0 {
		why = fmt.Sprintf("it has not joined: officers can have its token go by version %d of the register, %s", version, digest)
	}
	if err := f.inventory.Fresh(); why == "" && err != nil {
		why = causeOf(err).Error()
	}
	ctx, cancel := context.WithTimeout(ctx, f.OperationTimeout)
	defer cancel()
	at := time.Now()
	if err := f.officers.Report(ctx, f.Version, why); err != nil {
		return err
	}
	f.inventory.Wrote(at)
	return nil
}

// causeOf returns what is behind a refusal, for the operator.
func causeOf(err error) error {
	if cause := fault.Of(err).Unwrap(); cause != nil {
		return cause
	}
	return err
}

// settle brings the modules the register of officers and keys, unless that has been done.
func (f *front) settle(ctx context.Context) {
	attempt, cancel := context.WithTimeout(ctx, 3*f.OperationTimeout)
	defer cancel()
	why := ""
	if err := f.officers.Settle(attempt); err != nil {
		if ctx.Err() != nil {
			return // the front ends
		}
		why = err.Error()
	}
	if before := f.unsettled.Swap(why); why != "" && why != before { // once for each cause
		f.Log.Error("no key can be used: the modules do not take the database's register of officers and keys", "cause", why)
	}
}

// purge deletes keys whose deletion was not called off in time.
func (f *front) purge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, f.OperationTimeout)
	defer cancel()
	gone, err := f.officers.Purge(ctx)
	if err != nil {
		f.Log.Error("keys that were to be deleted are still there", "cause", err)
	}
	for _, v := range gone {
		// They are gone, whether the front ends or not.
		err := f.log.Append(context.WithoutCancel(ctx), audit.Entry{Decision: audit.Event, Detail: "deleted, as officers decided", Keys: []audit.Key{{Name: v.Name, Version: v.Version}}})
		if err != nil {
			f.Log.Error("a deletion is not in the audit log", "key", v.Name, "version", v.Version, "cause", err)
		}
	}
}

// reseal seals keys anew after a change of master keys, until ctx ends.
func (f *front) reseal(ctx context.Context) {
	look := time.NewTicker(resealInterval)
	defer look.Stop()
	said := ""
	for {
		r, err := f.officers.Reseal(ctx)
		if r.Done > 0 {
			f.Log.Info("keys were sealed anew under the present master keys", "done", r.Done, "left", r.Left)
		}
		if err == nil {
			err = r.Error
		}
		if err != nil && ctx.Err() == nil && err.Error() != said { // once for each cause
			said = err.Error()
			f.Log.Error("not every key could be sealed anew under the present master keys", "left", r.Left, "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// keepExpiring ends injections that terminals have not confirmed in time, and those that a crash
// has left without an answer.
func (f *front) keepExpiring(ctx context.Context) {
	f.keepEnding(ctx, expireInterval, f.distribution.Expire, "injections of terminals were ended that were not confirmed in time, or broken off",
		"injections of terminals that were not confirmed in time are not ended")
}

// keepExpiringVoids ends voids that nobody has authorised in time, and those about which the switch
// was silent.
func (f *front) keepExpiringVoids(ctx context.Context, service *server.Server) {
	f.keepEnding(ctx, voidInterval, service.ExpireVoids, "voids were ended whose time was over", "voids whose time is over are not ended")
}

// keepEnding ends what is over, time and again, and says how many there were.
func (f *front) keepEnding(ctx context.Context, interval time.Duration, end func(context.Context) (int, error), done, failed string) {
	look := time.NewTicker(interval)
	defer look.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		attempt, cancel := context.WithTimeout(ctx, 3*f.OperationTimeout)
		ended, err := end(attempt)
		cancel()
		if ended > 0 {
			f.Log.Info(done, "number", ended)
		}
		switch {
		case err == nil:
			said = ""
		case ctx.Err() == nil && causeOf(err).Error() != said: // once for each cause
			said = causeOf(err).Error()
			f.Log.Error(failed, "cause", causeOf(err))
		}
	}
}
