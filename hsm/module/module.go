// Package module is the process behind the hardware boundary: the only code that
// loads PKCS#11, unseals a key or sees a clear PIN.
//
// It is started by the supervisor, never by the front, and speaks to the front only in
// frames of a closed set of operations, over a socket pair that the supervisor hands
// to both. What may ever be done is decided here, whoever asks.
package module

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/checkpoints"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/injection"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/pinrecords"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/softhsm"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/velocity"
	"keyd/hsm/module/internal/working"
	"keyd/supervisor/child"
	"keyd/supervisor/confine"
	"keyd/supervisor/pinfile"
)

// Options are what the supervisor tells a module or a provisioning process.
type Options struct {
	ControlFD     int      // control socket (package child); modules only
	PINFD         int      // file with the token PIN (package pinfile)
	Library       string   // PKCS#11 library
	Parameters    string   // what it is initialised with, where it takes parameters; no secret
	Label         string   // of the token
	Sessions      int      // PKCS#11 sessions besides the keeper
	CachedKeys    int      // unsealed keys kept in the token
	DerivedKeys   int      // AES DUKPT derivation keys kept in the token
	Development   bool     // the token must carry the dev mark; else it must not
	Separated     bool     // front and modules run under users of their own
	Directories   []string // what the library may read and write
	Files         []string // what the library may read
	Connect       []uint16 // TCP ports that the library may connect to
	Velocity      VelocityOptions
	CheckpointsFD int           // file in which the modules of a host remember what checkpoints they signed, or -1: none is signed
	LedgerFD      int           // file in which they remember which device an initial key belongs to, or -1: none leaves
	EpochFD       int           // file of register.PageSize bytes that the modules of a host share, or -1
	Roster        []byte        // ceremony.Roster of a development token, encoded
	StuckAfter    time.Duration // how long a token call may take before this process is replaced
	Log           *slog.Logger
}

// Permanent is an error that another start cannot mend: the process ends with
// child.ExitPermanent and is not started again; where no module has served yet, the
// supervisor stops everything.
type Permanent struct{ error }

// Unwrap returns the cause.
func (p Permanent) Unwrap() error { return p.error }

// garbage is how far the heap may grow before it is collected, in percent of what is in
// use, which is a few MB. No clear value is on it.
const garbage = 400

// Run is a module's life: confine, log in, test, serve. It returns nil when the
// supervisor asked it to stop. A permanent failure is a [Permanent].
func Run(o Options) error {
	debug.SetGCPercent(garbage)
	var stuck atomic.Pointer[func() bool] // set when there is something that can hang
	control, err := child.Connect(o.ControlFD, func() bool {
		f := stuck.Load()
		return f == nil || !(*f)()
	})
	if err != nil {
		return err
	}
	tok, confined, err := openToken(o, control.Supervisor(), false)
	if err != nil {
		return err
	}
	if err := checkMark(tok, o.Development); err != nil {
		return err
	}
	masters, err := findMasters(tok)
	if err != nil {
		return err
	}
	page, err := register.OpenPage(o.EpochFD)
	if err != nil {
		return Permanent{err}
	}
	set := sealing.NewSet(masters)
	registered := register.New(page, set, o.Development, time.Now, softhsm.Store(o.Directories))
	passed, err := powerOn(tok)
	if err != nil {
		return err
	}
	table, err := openVelocity(o.Velocity, tok, masters)
	if err != nil {
		return err
	}
	if err := confined.Syscalls(); err != nil {
		return Permanent{err}
	}
	report := confined.Report()
	for _, m := range report.Weak() {
		o.Log.Warn("not confined as far as it could be", "measure", m.Name, "state", m.State, "why", m.Why)
	}

	for _, p := range tok.Protections() {
		if !p.Kept {
			o.Log.Warn("the token does not protect keys as far as others do", "not kept", p.Name, "means", p.Lost)
		}
	}

	atStart := token.FailureCount() // what was tried out until now is no fault of the token
	dead := make(chan error, 1)
	keys := working.New(tok, sealing.NewCache(tok, set, o.CachedKeys), o.DerivedKeys, registered)
	given := ledger.Open(o.LedgerFD)
	var officers *quorum.Engine
	err = tok.Do(func(s *token.Session) (err error) {
		if officers, err = quorum.New(s, keys, set, registered, given, o.Development); err == nil {
			err = registered.Refresh(s)
		}
		return err
	})
	if err != nil {
		return err
	}
	counting := tries.New(table)
	all := newEngines(keys, counting, officers, registered, checkpoints.Open(o.CheckpointsFD),
		injection.New(keys, set, registered, given, officers), pinrecords.New(keys, set, registered, given, counting))
	server := newServer(all, tok.Sessions(),
		func() *wire.Description {
			d := describe(o, keys, registered, table, masters, report, passed, atStart)
			d.Operations = all.custodies()
			return d
		},
		o.Log,
		func(err error) {
			select {
			case dead <- err:
			default: // the process ends already
			}
		})
	server.store = softhsm.Store(o.Directories)
	hangs := func() bool { return tok.Stuck(o.StuckAfter) || server.stuck(o.StuckAfter) }
	stuck.Store(&hangs)
	if err := control.Ready(); err != nil {
		return err
	}
	look := time.NewTicker(pinInterval)
	defer look.Stop()
	for {
		select {
		case <-look.C: // modules of other hosts pin epochs too
			if err := tok.Do(registered.Refresh); err != nil {
				return fmt.Errorf("the token's pin of the register cannot be read, so this process ends: %w", err)
			}
		case channel := <-control.Channels():
			server.attach(channel.Conn)
		case err := <-dead:
			return fmt.Errorf("the token is lost, so this process ends: %w", err)
		case <-control.Stopping():
			if table != nil {
				return table.Sync()
			}
			return nil
		}
	}
}

// pinInterval is how often a module looks whether another host's has pinned an epoch.
const pinInterval = 2 * time.Second

// findMasters returns the token's master keys of the generation that seals.
func findMasters(tok *token.Token) (masters *sealing.Masters, err error) {
	err = tok.Do(func(s *token.Session) error {
		pin, _, err := register.ReadPin(s)
		if err == nil {
			masters, err = sealing.FindMasters(s, pin.Generation)
		}
		return err
	})
	if errors.Is(err, sealing.ErrNoMasters) || errors.Is(err, register.ErrNoPin) {
		return nil, Permanent{fmt.Errorf("%w: run keyd init", err)}
	}
	return masters, err
}

// openToken does everything up to the login, in this order, which matters: memory
// first, so that no page is ever swapped or dumped; then the file system, before
// foreign code is loaded; then the library and the login. System calls are restricted
// by the caller after that, when the library has made its threads and mappings.
//
// Only what another start cannot mend is [Permanent]: a token that is away comes back.
func openToken(o Options, supervisor int, mayInitialise bool) (*token.Token, *confine.Confinement, error) {
	confined, err := confine.New(confine.Module, o.Connect...)
	if err != nil {
		return nil, nil, Permanent{err}
	}
	if err := confined.Early(supervisor); err != nil {
		return nil, nil, Permanent{err}
	}
	if err := confined.Filesystem(confine.Paths{
		ReadDirs:  existing(libraryDirs),
		ReadFiles: append(existing(libraryFiles), o.Files...),
		WriteDirs: o.Directories,
	}); err != nil {
		return nil, nil, Permanent{err}
	}
	login, err := softhsm.Begin(o.Directories)
	if err != nil {
		return nil, nil, err
	}
	defer login.End()
	for _, folder := range login.Mended() {
		o.Log.Warn("a process was killed while it logged in and left the token broken: it has been mended", "folder", folder)
	}
	library, err := token.Load(o.Library, o.Parameters)
	var failed *token.Error
	if errors.As(err, &failed) {
		return nil, nil, fmt.Errorf("%w (may this user read and write token.directories and read token.files, and is token.parameters what the library takes?)", err)
	}
	if err != nil {
		return nil, nil, Permanent{err}
	}
	pin, err := locked.New(pinfile.MaxPIN())
	if err != nil {
		return nil, nil, Permanent{err}
	}
	defer pin.Free()
	n, err := pinfile.Read(o.PINFD, pin.Bytes())
	if err = errors.Join(err, unix.Close(o.PINFD)); err != nil {
		return nil, nil, Permanent{err}
	}
	if mayInitialise {
		if err := initialise(library, o.Label, pin.Bytes()[:n]); err != nil {
			return nil, nil, Permanent{err}
		}
	}
	slot, info, err := library.FindToken(o.Label)
	if err != nil {
		return nil, nil, err
	}
	tok, err := library.Open(slot, info, pin.Bytes()[:n], o.Sessions)
	if err != nil && token.ClassOf(err) == token.LoginFailed {
		return nil, nil, Permanent{fmt.Errorf("log in to token %q: %w: correct the PIN before starting again, or the token may lock", o.Label, err)}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("log in to token %q: %w", o.Label, err)
	}
	return tok, confined, nil
}

// What PKCS#11 libraries and the libraries that they load read.
var (
	libraryDirs  = []string{"/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ssl"}
	libraryFiles = []string{"/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom", "/dev/random"}
)

func existing(paths []string) (found []string) {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			found = append(found, p)
		}
	}
	return found
}

// Provision prepares a development token and seals test keys: a process of its own that
// ends before any front exists. The token gets its master keys and its roster if it has
// none. keys are files of known keys; they are written to out, sealed, in their order: the
// last of a name counts.
func Provision(o Options, keys []io.Reader, out io.Writer) error {
	if !o.Development {
		return Permanent{errNotDevelopment}
	}
	tok, _, err := openToken(o, os.Getppid(), true)
	if err != nil {
		return err
	}
	var masters *sealing.Masters
	err = tok.Do(func(s *token.Session) (err error) { masters, err = provideMasters(s, o.Roster); return err })
	if err != nil {
		return Permanent{err}
	}
	if err := checkMark(tok, true); err != nil {
		return err
	}
	for _, file := range keys {
		if err := sealTestKeys(tok, masters, file, out); err != nil {
			return Permanent{err}
		}
	}
	return nil
}

func describe(o Options, keys *working.Keys, registered *register.Register, table *velocity.Table, masters *sealing.Masters, report confine.Report, passed []string, atStart []token.Failures) *wire.Description {
	tok := keys.Token()
	d := &wire.Description{
		Label: tok.Info.Label, Manufacturer: tok.Info.ManufacturerID, Model: tok.Info.Model,
		Generation: masters.Generation, Development: o.Development,
		SelfTests: passed, CachedKeys: int64(keys.Unsealed()), DerivedKeys: int64(keys.Derived()), Erasure: erase.How,
		Velocity: describeVelocity(table, o.Velocity.Limits),
	}
	d.EpochLoaded, d.EpochPinned = registered.Loaded()
	if e, err := registered.Current(); err == nil {
		d.Generation = e.Generation // another than at the start, since master keys were replaced
	}
	for _, c := range tok.Calls() {
		d.Calls = append(d.Calls, &wire.TokenCalls{Name: c.Name, Count: c.Count, Blocks: c.Blocks})
	}
	for i, f := range token.FailureCount() {
		d.Errors = append(d.Errors, &wire.TokenErrors{Class: f.Class, Count: f.Count - atStart[i].Count})
	}
	for _, m := range report.Measures {
		d.Confinement = append(d.Confinement, &wire.Measure{Name: m.Name, State: string(m.State), Detail: m.Why})
	}
	users := hsm.SeparateUsers(o.Separated)
	d.Confinement = append(d.Confinement, &wire.Measure{Name: users.Name, State: users.State, Detail: users.Detail})
	d.Probes = describeToken(tok)
	return d
}

// describeToken says what the token does and keeps to, as it was found by trying.
func describeToken(tok *token.Token) (list []*wire.Measure) {
	for _, p := range token.Probes {
		m := &wire.Measure{Name: p.Name, State: "on", Detail: "known answer"}
		if tok.Lacks(p) {
			m.State, m.Detail = "off", "the token has no such mechanism: it serves for "+p.Serves
		}
		list = append(list, m)
	}
	for _, p := range tok.Protections() {
		m := &wire.Measure{Name: p.Name, State: "on", Detail: "tried out"}
		if !p.Kept {
			m.State, m.Detail = "off", p.Lost
		}
		list = append(list, m)
	}
	return list
}

// Exit returns the status with which a process ends after Run or Provision.
func Exit(err error) int {
	var permanent Permanent
	switch {
	case err == nil:
		return 0
	case errors.As(err, &permanent):
		return child.ExitPermanent
	}
	return 1
}
