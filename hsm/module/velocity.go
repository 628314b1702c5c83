package module

import (
	"encoding/hex"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/hostfile"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/velocity"
	"keyd/pinblock"
)

// VelocityOptions are what a process is told of the table of tries.
type VelocityOptions struct {
	FD     int    // its file, -1 for none: then tries are not limited
	Boot   string // the kernel's boot ID, 32 hex digits
	Limits VelocityLimits
}

// VelocityLimits limit verifications and translations of PINs, and verifications of card
// verification values.
type VelocityLimits struct{ Verification, Translation, Card VelocityLimit }

// VelocityLimit is how often in any minute, hour and day; 0 is no limit.
type VelocityLimit = velocity.Limit

// CreateVelocity opens the file that the modules of a host share, and makes it if it is
// missing. The supervisor calls it and hands the descriptor on. Modules of a supervisor
// that was killed may have the file for a moment longer: it waits for them.
func CreateVelocity(path string, entries int) (*os.File, error) {
	return patiently(func() (*os.File, error) { return velocity.Create(path, entries) })
}

// patiently opens a file of the modules, for which it waits as long as another keyd has it.
func patiently(open func() (*os.File, error)) (*os.File, error) {
	const patience, pause = 2 * time.Second, 50 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		f, err := open()
		if !errors.Is(err, hostfile.ErrInUse) || waited >= patience {
			return f, err
		}
		time.Sleep(pause)
	}
}

// CheckVelocity says what is wrong with an existing file.
func CheckVelocity(path string, entries int) error { return velocity.Check(path, entries) }

// AttachVelocity opens the file beside a keyd that may be running, for [Permit].
func AttachVelocity(path string) (*os.File, error) { return velocity.Attach(path) }

// EndVelocity marks that all modules have ended, so that nothing they counted is lost.
// bootID is that of [VelocityOptions].
func EndVelocity(f *os.File, bootID string) error {
	boot, err := parseBoot(bootID)
	if err != nil {
		return err
	}
	return velocity.MarkClean(f, boot)
}

// EndPermit gives the file back after [Permit]. Where no keyd has it, nobody else will mark
// that nothing is lost.
func EndPermit(f *os.File, bootID string) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // a keyd runs
	}
	return EndVelocity(f, bootID)
}

// openVelocity joins the table, nil if there is none.
func openVelocity(o VelocityOptions, tok *token.Token, masters *sealing.Masters) (*velocity.Table, error) {
	if o.FD < 0 {
		return nil, nil
	}
	boot, err := parseBoot(o.Boot)
	if err != nil {
		return nil, Permanent{err}
	}
	clock, err := velocity.SystemClock()
	if err != nil {
		return nil, Permanent{err}
	}
	var key [32]byte
	err = tok.Do(func(s *token.Session) (err error) { key, err = masters.Secret(s, "velocity"); return err })
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	table, err := velocity.Open(o.FD, key, boot, velocity.Limits(o.Limits), clock)
	if err != nil {
		return nil, Permanent{err}
	}
	return table, nil
}

func parseBoot(text string) (boot [16]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(boot) {
		return boot, errors.New("the boot ID is not one")
	}
	return [16]byte(b), nil
}

// Permit lets the tries of an account be reset once: a process of its own, at the
// machine, for whoever knows the token's PIN. pan has 1 to 19 digits.
func Permit(o Options, pan string, translations bool, valid time.Duration) error {
	account, err := pinblock.ParsePAN(pan)
	if err != nil {
		return Permanent{err}
	}
	tok, _, err := openToken(o, os.Getppid(), false)
	if err != nil {
		return err
	}
	masters, err := findMasters(tok)
	if err != nil {
		return err
	}
	table, err := openVelocity(o.Velocity, tok, masters)
	if err != nil {
		return err
	}
	if table == nil {
		return Permanent{errors.New("tries are not limited here, so there is nothing to permit")}
	}
	kind := velocity.Verification
	if translations {
		kind = velocity.Translation
	}
	err = table.Permit(kind, tries.PermitSubject(account), valid)
	if err = errors.Join(err, table.Close()); err != nil {
		return Permanent{err}
	}
	return nil
}

// resetTries carries out what was permitted.
func (s *server) resetTries(r hsm.ResetTries) (struct{}, error) {
	return struct{}{}, s.engines.tries.Reset(s.engines.keys, r.Verification, r.PAN)
}

func describeVelocity(t *velocity.Table, limits VelocityLimits) *wire.Velocity {
	if t == nil {
		return nil
	}
	stats := t.Stats()
	v := &wire.Velocity{
		Verifications: wireLimit(limits.Verification), Translations: wireLimit(limits.Translation), Cards: wireLimit(limits.Card),
		Entries: uint64(stats.Entries), InUse: uint64(stats.InUse), Refusals: stats.Refusals, Crowded: stats.Crowded,
	}
	if !stats.PresumedUntil.IsZero() {
		v.PresumedUntil = stats.PresumedUntil.Unix()
	}
	switch {
	case stats.Stale:
		v.Failing = "nothing is allowed, since the table could not be written to the disk for a minute"
	case stats.SyncError != nil:
		v.Failing = stats.SyncError.Error()
	}
	return v
}

func wireLimit(l VelocityLimit) *wire.Limits {
	return &wire.Limits{Minute: uint32(l.Minute), Hour: uint32(l.Hour), Day: uint32(l.Day)}
}

// CreateSpentVelocity makes the file of a host whose counts are lost, when its database is
// restored: every account begins with its tries used up. A file that modules have used stays as
// it is; then it returns false.
func CreateSpentVelocity(path string, entries int) (made bool, err error) {
	return velocity.CreateSpent(path, entries, time.Now())
}

// RemoveUnusedVelocity removes a file that no module has used yet.
func RemoveUnusedVelocity(path string) error { return velocity.RemoveUnused(path) }
