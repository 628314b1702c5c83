// Package front is the front process, from confinement to drain: it opens what it may
// have (database, audit log, policy, TLS identity), closes everything else to itself,
// and serves.
//
// It has no token directory, no PIN, no PKCS#11 library and may execute nothing. What
// it cannot do by itself it asks of a module (package hsm).
package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"keyd/audit"
	"keyd/hsm"
	"keyd/keys"
	"keyd/ksn"
	"keyd/metrics"
	"keyd/server"
	"keyd/store"
	"keyd/supervisor/child"
	"keyd/supervisor/confine"
	"keyd/terminals"
	"keyd/tracing"
)

// Options are what the supervisor tells the front.
type Options struct {
	ControlFD   int // control socket (package child)
	ListenFD    int // bound TCP socket
	AdminFD     int // the same for metrics, health and profiles, or -1
	WebFD       int // the same for pages for phones, or -1
	ProvisionFD int // sealed keys of a provisioning process, or -1

	VaultReportFD int // what the unlock process says of Vault (package vault/report), or -1

	State       string // directory of the audit log, and of the database where it is SQLite
	Policy      string // file
	Certificate string // PEM files of the server's identity
	Key         string
	ClientCA    string

	WebCertificate string // PEM files of the pages for phones, where they are served
	WebKey         string

	// Postgres is the database that the nodes of a fleet share; without a host it is an SQLite
	// file in State. Node is this keyd's name among them.
	Postgres store.PostgresOptions
	Node     string

	// Trace is where spans go; without a collector nothing is traced.
	Trace tracing.Options

	OperationTimeout time.Duration // of an operation in a module
	DrainTimeout     time.Duration // of requests under way when keyd stops
	RetryWindow      time.Duration // for which answers are kept for identical retries
	MaxJump          uint32        // of a terminal's counter
	Audit            audit.Options // segments, and the name of a new log
	Development      bool          // reflection
	Separated        bool          // front and modules run under users of their own
	Version          string
	Log              *slog.Logger
}

// ErrSetUp is wrapped by errors that another start cannot mend.
var ErrSetUp = errors.New("the front cannot start")

// garbage is how far the heap may grow before it is collected, in percent of what is in
// use. That is some 10 MB: at Go's own 100 percent a busy front collects 50 times a
// second, which costs a tenth of its time.
const garbage = 400

// Run is a front's life. It returns nil when the supervisor asked it to stop.
func Run(o Options) (err error) {
	debug.SetGCPercent(garbage)
	control, err := child.Connect(o.ControlFD, nil)
	if err != nil {
		return err
	}
	confined, err := confineFiles(o, control.Supervisor())
	if err != nil {
		return setUp(err)
	}
	f, err := open(o)
	if errors.Is(err, store.ErrUnreachable) {
		return err // it may be back at the next start
	}
	if err != nil {
		return setUp(err)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := confined.Syscalls(); err != nil {
		return setUp(err)
	}
	report := confined.Report()
	if err := f.insist(report); err != nil {
		return setUp(err)
	}
	for _, m := range report.Weak() {
		o.Log.Warn("not confined as far as it could be", "measure", m.Name, "state", m.State, "why", m.Why)
	}
	return f.serve(control, report)
}

func setUp(err error) error { return fmt.Errorf("%w: %w", ErrSetUp, err) }

// confineFiles leaves the front its own directory and the files of its identity.
func confineFiles(o Options, supervisor int) (*confine.Confinement, error) {
	var connect []uint16
	files := []string{o.Policy, o.Certificate, o.Key, o.ClientCA}
	if o.WebFD >= 0 {
		files = append(files, o.WebCertificate, o.WebKey)
	}
	if o.Trace.Collector != "" {
		at, err := netip.ParseAddrPort(o.Trace.Collector)
		if err != nil {
			return nil, fmt.Errorf("collector: %w", err)
		}
		connect = append(connect, at.Port())
		if o.Trace.Authority != "" {
			files = append(files, o.Trace.Authority)
		}
	}
	ports, private, err := databaseFiles(o)
	if err != nil {
		return nil, err
	}
	connect, files = append(connect, ports...), append(files, private...)
	confined, err := confine.New(confine.Front, connect...)
	if err != nil {
		return nil, err
	}
	if o.AdminFD >= 0 {
		confined.AllowProfiling()
	}
	if err := confined.Early(supervisor); err != nil {
		return nil, err
	}
	return confined, confined.Filesystem(confine.Paths{
		WriteDirs: []string{o.State},
		ReadFiles: files,
	})
}

// front holds what the process has open.
type front struct {
	Options
	listener  net.Listener
	admin     net.Listener // nil where there is none
	web       net.Listener // likewise
	phones    *phonePages  // likewise
	database  store.Store
	log       *audit.Log
	inventory *keys.Inventory
	officers  *keys.Ceremonies

	terminals    *terminals.Inventory
	distribution *terminals.Distribution

	serials   *ksn.Ledger
	modules   *hsm.Client
	keeper    *audit.Keeper
	checked   chan struct{} // closed once the log was held against what the modules have signed
	unsettled atomic.Value  // string: why the modules do not have the register; empty when they have
	metrics   *metrics.Metrics
	tracer    *tracing.Tracer // nil where nothing is traced
	current   current
	vault     *os.File // nil where nothing is asked of Vault
}

func open(o Options) (_ *front, err error) {
	f := &front{Options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.listener, err = listener(o.ListenFD); err != nil {
		return nil, fmt.Errorf("listening socket: %w", err)
	}
	if o.AdminFD >= 0 {
		if f.admin, err = listener(o.AdminFD); err != nil {
			return nil, fmt.Errorf("admin socket: %w", err)
		}
	}
	if o.WebFD >= 0 {
		if f.web, err = listener(o.WebFD); err != nil {
			return nil, fmt.Errorf("socket of the pages for phones: %w", err)
		}
	}
	if o.VaultReportFD >= 0 {
		if f.vault = os.NewFile(uintptr(o.VaultReportFD), "report on Vault"); f.vault == nil {
			return nil, errors.New("no descriptor of the report on Vault")
		}
	}
	if f.database, err = openDatabase(o); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := audit.CheckOld(o.State); err != nil {
		return nil, err
	}
	if f.log, err = audit.Open(filepath.Join(o.State, audit.DirectoryName), o.Audit); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	// After the audit log, which lets one front at a time go on.
	if f.serials, err = ksn.Open(context.Background(), f.database, ksn.Options{RetryWindow: o.RetryWindow, MaxJump: o.MaxJump, Log: o.Log}); err != nil {
		return nil, fmt.Errorf("key serial numbers: %w", err)
	}
	if err := f.checkJournal(); err != nil {
		return nil, err
	}
	f.inventory = keys.New(f.database)
	if err := f.takeProvisioned(); err != nil {
		return nil, err
	}
	f.modules = hsm.NewClient(o.OperationTimeout, o.Log)
	f.keeper, f.checked = audit.NewKeeper(f.log, f.modules, o.Log), make(chan struct{})
	f.metrics = metrics.New()
	observe := f.metrics.Requests.Operation
	if o.Trace.Collector != "" {
		if f.tracer, err = tracing.Open(o.Trace); err != nil {
			return nil, err
		}
		observe = both(observe, f.tracer.Operation)
	}
	f.modules.Observe(observe)
	f.officers = keys.NewCeremonies(f.database, f.inventory, f.modules)
	f.officers.Development, f.officers.Node, f.officers.Instance = o.Development, o.Node, f.log.Origin()
	f.terminals = terminals.New(f.database, f.officers)
	f.distribution = terminals.NewDistribution(f.terminals, f.database, f.inventory, f.modules)
	if o.shared() {
		f.inventory.Share()
		if err := f.officers.CheckName(context.Background()); err != nil {
			return nil, err
		}
	}
	f.inventory.Start(func(err error) { o.Log.Error("how often keys are used is not kept for now", "cause", err) })
	return f, nil
}

// listener takes over a bound socket.
func listener(fd int) (net.Listener, error) {
	socket := os.NewFile(uintptr(fd), "listener")
	if socket == nil {
		return nil, errors.New("no socket")
	}
	l, err := net.FileListener(socket)
	return l, errors.Join(err, socket.Close())
}

// both tells two observers.
func both(a, b hsm.Observer) hsm.Observer {
	return func(ctx context.Context, operation string, module int) func(error) {
		doneA, doneB := a(ctx, operation, module), b(ctx, operation, module)
		return func(err error) { doneB(err); doneA(err) }
	}
}

// takeProvisioned takes in the keys that a provisioning process has sealed.
func (f *front) takeProvisioned() error {
	if f.ProvisionFD < 0 {
		return nil
	}
	file := os.NewFile(uintptr(f.ProvisionFD), "provisioned keys")
	if file == nil {
		return errors.New("no descriptor of provisioned keys")
	}
	defer file.Close() //nolint:errcheck // read only
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("provisioned keys: %w", err)
	}
	sealed, err := hsm.ReadProvisioned(file)
	if err != nil {
		return err
	}
	if len(sealed) == 0 {
		return nil
	}
	if err := f.inventory.Import(context.Background(), sealed); err != nil {
		return err
	}
	return f.log.Append(context.Background(), audit.Entry{
		Decision: audit.Event, Detail: fmt.Sprintf("%d test keys loaded at start", len(sealed)),
	})
}

// close releases what is open, in the reverse order.
func (f *front) close() error {
	var errs []error
	if f.tracer != nil {
		if err := f.tracer.Close(); err != nil {
			f.Log.Info("the last spans are lost", "cause", err)
		}
	}
	if f.modules != nil {
		f.modules.Close()
	}
	if f.inventory != nil {
		errs = append(errs, f.inventory.Close())
	}
	if f.serials != nil {
		errs = append(errs, f.serials.Close())
	}
	if f.log != nil {
		errs = append(errs, f.log.Close())
	}
	if f.database != nil {
		errs = append(errs, f.database.Close())
	}
	return errors.Join(errs...)
}

// insist refuses to serve in production where nothing would keep a front that is taken
// over from the token: the same user as the modules, and no Landlock or no seccomp.
func (f *front) insist(report confine.Report) error {
	if f.Development || f.Separated {
		return nil
	}
	for _, m := range report.Measures {
		if (m.Name == "landlock-files" || m.Name == "seccomp") && m.State == confine.Off {
			return fmt.Errorf("front and modules run under one user and %s is off (%s): start keyd as root with users.front and users.module", m.Name, m.Why)
		}
	}
	return nil
}

// serve runs until the supervisor asks the front to stop.
func (f *front) serve(control *child.Control, report confine.Report) error {
	policy, identity, err := f.load()
	if err != nil {
		return setUp(err)
	}
	if err := f.log.Append(context.Background(), audit.Entry{
		Decision: audit.Event, Detail: "front started with policy " + policy.Digest()[:11],
	}); err != nil {
		return err
	}
	processes := func() []child.ChildState { return control.State().Children }
	config := server.Config{
		TLS: identity.Config, Policy: policy, Audit: f.log, Keys: f.inventory, Officers: f.officers, Serials: f.serials, Terminals: f.terminals, Distribution: f.distribution, PINRecords: f.database, Voids: f.database, Backups: f.database, Modules: f.modules, Log: f.Log,
		Version:     f.Version,
		Processes:   processes,
		Confinement: append(measures(report), hsm.SeparateUsers(f.Separated)),
		Reflection:  f.Development,
		Metrics:     f.metrics.Requests,
		InUse:       f.inUse,
	}
	if f.tracer != nil {
		config.Tracer = f.tracer
	}
	service, err := server.New(config)
	if err != nil {
		return setUp(err)
	}
	if f.phones, err = f.openPages(service.Pages(), policy); err != nil {
		return setUp(err)
	}
	if f.phones != nil {
		go func() {
			if err := f.phones.serve(f.web); err != nil {
				f.Log.Error("the pages for phones are not served any more", "cause", err)
			}
		}()
		defer f.phones.http.Close() //nolint:errcheck // what it answers is worth nothing any more
	}
	if f.admin != nil {
		pages := f.pages(service, processes)
		defer pages.Close() //nolint:errcheck // what it answers is worth nothing any more
		go func() {
			if err := pages.Serve(f.admin); err != nil {
				f.Log.Error("metrics, health and profiles are not served any more", "cause", err)
			}
		}()
	}
	served := make(chan error, 1)
	go func() { served <- service.Serve(f.listener) }()
	end := f.keepUp(service)
	defer end()
	ready := false
	for {
		select {
		case channel := <-control.Channels():
			f.modules.Attach(channel.Module, channel.Conn)
			if ready {
				continue
			}
			// The front can serve when it has a module to ask, and the log is the one that the
			// modules have signed.
			if err := f.checkLog(); err != nil {
				return setUp(err)
			}
			ready = true
			f.settle(context.Background())
			if f.shared() {
				if err := errors.Join(f.refresh(context.Background()), f.report(context.Background())); err != nil { // it is tried again
					f.Log.Error("what other nodes have changed is not taken up", "cause", causeOf(err))
				}
			}
			f.purge(context.Background())
			if err := control.Ready(); err != nil {
				return err
			}
		case opened := <-control.Reloads():
			if err := control.Reloaded(opened, f.reload(service, opened)); err != nil {
				return err
			}
		case err := <-served:
			return err
		case <-control.Stopping():
			ctx, cancel := context.WithTimeout(context.Background(), f.DrainTimeout)
			defer cancel()
			if f.phones != nil {
				f.phones.drain(ctx)
			}
			if err := service.Drain(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			err := <-served
			end()
			f.lastCheckpoint()
			return err
		}
	}
}

func measures(report confine.Report) (list []hsm.Measure) {
	for _, m := range report.Measures {
		list = append(list, hsm.Measure{Name: m.Name, State: string(m.State), Detail: m.Why})
	}
	return list
}
