package front

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"keyd/audit"
	"keyd/metrics"
	"keyd/policies"
	"keyd/server"
	"keyd/supervisor/child"
)

// What the supervisor calls the files of a reload.
const (
	FilePolicy      = "policy"
	FileCertificate = "certificate"
	FileKey         = "key"
	FileClientCA    = "client_ca"

	FileWebCertificate = "web_certificate"
	FileWebKey         = "web_key"
)

// current is what this front goes by at the moment.
type current struct {
	mu  sync.Mutex
	use server.InUse
}

func (c *current) get() server.InUse {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.use
}

func (c *current) set(change func(*server.InUse)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.use)
}

// load reads policy and TLS identity at the start, when the files are those that this
// process may open.
func (f *front) load() (*policies.Policy, *server.TLSIdentity, error) {
	policy, err := policies.Load(f.Policy)
	if err != nil {
		return nil, nil, err
	}
	identity, err := server.LoadTLS(server.TLSFiles{Certificate: f.Certificate, Key: f.Key, ClientCA: f.ClientCA})
	if err != nil {
		return nil, nil, err
	}
	f.usePolicy(policy)
	f.useTLS(identity)
	return policy, identity, nil
}

func (f *front) usePolicy(p *policies.Policy) {
	f.current.set(func(u *server.InUse) { u.Policy = server.PolicyInUse{Digest: p.Digest(), LoadedAt: time.Now()} })
}

func (f *front) useTLS(i *server.TLSIdentity) {
	f.current.set(func(u *server.InUse) {
		u.TLS = server.TLSInUse{Serial: i.Serial, NotAfter: i.NotAfter, LoadedAt: time.Now(), Authorities: i.Authorities, AuthoritiesUntil: i.AuthoritiesUntil}
	})
}

// inUse is the part of a server that a reload changes.
type inUse interface {
	SetPolicy(*policies.Policy)
	SetTLS(*tls.Config) (closed int, err error)
}

// reload takes up what the supervisor has opened anew: the policy, or nothing of it; and
// certificate, key and client authorities together, or nothing of them; likewise those of the pages for
// phones. What is wrong is
// left, said in log, audit log and status, and the old stays in use. It reports whether
// all is in use now, and closes the files.
func (f *front) reload(s inUse, opened child.Opened) (all bool) {
	defer opened.Close()
	var policyErr error
	if opened.Has(FilePolicy) { // it has not, where a certificate was renewed
		policyErr = f.reloadPolicy(s, opened)
		f.metrics.Reloads.Done(metrics.ReloadPolicy, policyErr)
	}
	if policyErr != nil {
		f.kept("the policy", policyErr)
		f.current.set(func(u *server.InUse) { u.Policy.Failed = server.FailedReload{At: time.Now(), Why: policyErr.Error()} })
	}
	tlsErr := f.reloadTLS(s, opened)
	f.metrics.Reloads.Done(metrics.ReloadTLS, tlsErr)
	if tlsErr != nil {
		f.kept("certificate, key and client authorities", tlsErr)
		f.current.set(func(u *server.InUse) { u.TLS.Failed = server.FailedReload{At: time.Now(), Why: tlsErr.Error()} })
	}
	var webErr error
	if f.phones != nil && opened.Has(FileWebCertificate) {
		webErr = f.reloadWeb(opened)
		f.metrics.Reloads.Done(metrics.ReloadWeb, webErr)
	}
	if webErr != nil {
		f.kept("certificate and key of the pages for phones", webErr)
		f.current.set(func(u *server.InUse) {
			failed := *u.Pages // others read the one before
			failed.Failed = server.FailedReload{At: time.Now(), Why: webErr.Error()}
			u.Pages = &failed
		})
	}
	return policyErr == nil && tlsErr == nil && webErr == nil
}

func (f *front) reloadPolicy(s inUse, opened child.Opened) error {
	file, err := readable(opened, FilePolicy)
	if err != nil {
		return err
	}
	policy, err := policies.Read(file)
	if err != nil {
		return err
	}
	before := f.current.get().Policy.Digest
	if err := f.event(fmt.Sprintf("policy %.11s takes the place of %.11s", policy.Digest(), before)); err != nil {
		return err // what is decided by must be on record
	}
	s.SetPolicy(policy)
	if f.phones != nil {
		if err := f.phones.use(policy); err != nil {
			return err // the policy was checked
		}
	}
	f.usePolicy(policy)
	f.Log.Info("policy loaded", "digest", policy.Digest(), "before", before)
	return nil
}

func (f *front) reloadTLS(s inUse, opened child.Opened) error {
	var files server.OpenTLSFiles
	for _, want := range []struct {
		name string
		file **os.File
	}{{FileCertificate, &files.Certificate}, {FileKey, &files.Key}, {FileClientCA, &files.ClientCA}} {
		var err error
		if *want.file, err = readable(opened, want.name); err != nil {
			return err
		}
	}
	identity, err := server.ReadTLS(files)
	if err != nil {
		return err
	}
	if err := identity.CheckTime(time.Now()); err != nil {
		return fmt.Errorf("%s: %w", files.Certificate.Name(), err)
	}
	if err := f.event(fmt.Sprintf("server certificate until %s and %d client authorities loaded", identity.NotAfter.UTC().Format(time.DateTime), identity.Authorities)); err != nil {
		return err
	}
	closed, err := s.SetTLS(identity.Config)
	if err != nil {
		return err
	}
	f.useTLS(identity)
	f.Log.Info("certificate, key and client authorities loaded", "serial", identity.Serial, "not_after", identity.NotAfter.UTC(),
		"client_authorities", identity.Authorities, "connections_closed", closed)
	return nil
}

// kept says that something stays as it was.
func (f *front) kept(what string, why error) {
	f.Log.Error("reload: the old stays in use", "what", what, "cause", why)
	if err := f.event("reload: " + what + " stay as they were: " + why.Error()); err != nil {
		f.Log.Error("that is not in the audit log", "cause", err)
	}
}

// eventLimit bounds the wait for the audit log, during which no channel of a module is
// taken.
const eventLimit = time.Second

func (f *front) event(detail string) error {
	return f.log.AppendWithin(eventLimit, audit.Entry{Decision: audit.Event, Detail: detail})
}

// readable returns a file of a reload, if this process could have opened it: the supervisor
// may open more, and a front that is started again has to open it by itself.
func readable(opened child.Opened, name string) (*os.File, error) {
	file, err := opened.Get(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New(file.Name() + ": its owner is not known")
	}
	if !mayRead(info.Mode(), owner.Uid, owner.Gid, uint32(os.Geteuid()), uint32(os.Getegid())) {
		return nil, fmt.Errorf("%s has mode %04o and owner %d:%d, so that the front (%d:%d) could not read it after a restart",
			file.Name(), info.Mode().Perm(), owner.Uid, owner.Gid, os.Geteuid(), os.Getegid())
	}
	return file, nil
}

// mayRead is the kernel's rule for a process without capabilities.
func mayRead(mode fs.FileMode, uid, gid, euid, egid uint32) bool {
	switch {
	case uid == euid:
		return mode&0o400 != 0
	case gid == egid:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}
