package vault

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"keyd/supervisor/confine"
	"keyd/supervisor/pinfile"
	"keyd/vault/report"
)

// Process is what one process was given.
type Process struct {
	*Options
	PINFD     int      // the PIN file, or -1
	SessionFD int      // the login of the process before, for the next
	Report    *os.File // for the front
	Log       *slog.Logger
}

// Outcome is what a process has done, for the supervisor.
type Outcome struct {
	Changed bool // the server's certificate is a new one
	Failed  bool // something is to be mended; the log says what
}

// renewTimeout bounds a whole run of [Renew].
const renewTimeout = 90 * time.Second

// Pauses between the attempts of [Start].
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 10 * time.Second
)

// Start gets the PIN, where Vault has it, and every certificate that is missing or due.
//
// The service cannot start without the PIN, nor without a server certificate that is valid.
// For these it waits for a Vault that is away; when the time is over the error is one of
// [IsAway]. Whatever else fails is logged and reported, and the service starts.
func Start(ctx context.Context, p Process) error {
	ctx, cancel := context.WithTimeout(ctx, p.StartTimeout)
	defer cancel()
	w := &work{Process: p}
	pause := firstPause
	var last error
	for {
		err := w.start(ctx)
		if last != nil && ctx.Err() != nil && IsAway(err) {
			err = last // cut short, this attempt has nothing to say
		}
		last = err
		switch {
		case err == nil:
			return w.report(nil)
		case !w.needed():
			p.Log.Error("the service starts with what it holds, and Vault is tried again", "cause", err)
			return w.report(err)
		case !IsAway(err):
			return errors.Join(err, w.report(err))
		}
		p.Log.Warn("waiting for Vault", "cause", err, "pause", pause)
		select {
		case <-ctx.Done():
			return errors.Join(away("it was waited for %s in vain, and the service cannot start without it (vault.start_timeout): %s", p.StartTimeout, message(err)), w.report(err))
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// Renew looks whether login or certificates are due, and asks Vault only then.
func Renew(ctx context.Context, p Process) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	w := &work{Process: p}
	err := w.renew(ctx)
	if err != nil {
		p.Log.Error("Vault is of no use now; the service goes on with what it holds, and it is tried again", "cause", err)
	}
	return Outcome{Changed: w.changed, Failed: err != nil || w.failed}, w.report(err)
}

// work is one process's.
type work struct {
	Process
	session  *session
	client   *client
	confined *confine.Confinement
	havePIN  bool
	changed  bool
	failed   bool
	problem  error // of the login, while it is good for a while
	problems map[string]string
}

// needed reports whether the service cannot start without Vault.
func (w *work) needed() bool {
	if w.PIN != nil && !w.havePIN {
		return true
	}
	for _, c := range w.Certificates {
		if c.Server {
			_, err := held(c, time.Now())
			return err != nil
		}
	}
	return false
}

// start is one attempt.
func (w *work) start(ctx context.Context) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	due := w.due()
	if (w.PIN == nil || w.havePIN) && len(due) == 0 && w.TokenFile == "" && !w.mustLogIn() {
		return nil
	}
	if err := w.logIn(ctx); err != nil {
		return err
	}
	if w.PIN != nil && !w.havePIN {
		if err := w.client.readPIN(ctx, func(pin []byte) error { return pinfile.Write(w.PINFD, pin) }); err != nil {
			return err
		}
		w.havePIN = true
	}
	err := w.sign(ctx, due)
	if err == nil && w.AppRole != nil && len(w.Certificates) == 0 {
		// Nothing is asked of Vault before the next start.
		if err := w.client.revoke(ctx, w.session); err != nil {
			w.Log.Warn("the login could not be ended: it is good until its time is over", "cause", err)
		}
		return w.session.store(w.SessionFD)
	}
	return err
}

// mustLogIn reports whether a wrapped secret-id waits, whose time would run out.
func (w *work) mustLogIn() bool {
	return w.AppRole != nil && w.AppRole.Wrapped && w.session.SecretID == "" && len(w.Certificates) > 0
}

// renew is what a later process does.
func (w *work) renew(ctx context.Context) error {
	session, err := loadSession(w.SessionFD)
	if err != nil {
		return err
	}
	w.session = session
	due := w.due()
	now := time.Now()
	// A token file may have been replaced: looking costs nothing but a file.
	if len(due) == 0 && !session.due(now) && session.holds(now) && (session.Token != "" || session.File != "" && w.sameFile()) {
		return nil
	}
	if err := w.open(ctx); err != nil {
		return err
	}
	if err := w.logIn(ctx); err != nil {
		return err
	}
	return w.sign(ctx, due)
}

// sameFile reports whether the token file holds the token of the session.
func (w *work) sameFile() bool { return tokenMark(w.TokenFile) == w.session.File }

// open makes the client and closes everything else to this process. Before a name is
// resolved nothing but the capabilities is given up, because that takes files and UDP.
func (w *work) open(ctx context.Context) (err error) {
	if w.client != nil {
		return nil
	}
	if w.session == nil {
		if w.session, err = loadSession(w.SessionFD); err != nil {
			return err
		}
	}
	if w.confined == nil {
		if w.confined, err = confine.New(confine.Unlock, w.Options.port()); err != nil {
			return err
		}
		if err := w.confined.Early(os.Getppid()); err != nil {
			return err
		}
	}
	for _, c := range w.Certificates {
		if err := CheckDirectory("vault.certificates.directory", c.Directory); err != nil {
			return err
		}
	}
	if w.AppRole != nil && w.AppRole.Wrapped {
		if err := CheckDirectory("the directory of "+whatSecretID, filepath.Dir(w.AppRole.SecretIDFile)); err != nil {
			return err
		}
	}
	client, err := newClient(ctx, w.Options)
	if err != nil {
		return err
	}
	if err := w.confined.Filesystem(w.Options.paths()); err != nil {
		return err
	}
	if err := w.confined.Syscalls(); err != nil {
		return err
	}
	w.client = client
	return nil
}

// logIn leaves the login for the next process at once: a secret-id that was unwrapped is
// nowhere else.
func (w *work) logIn(ctx context.Context) error {
	problem, err := w.client.login(ctx, w.session)
	w.problem = problem
	if problem != nil {
		w.failed = true
		w.Log.Warn("the login is not renewed", "cause", problem)
	}
	return errors.Join(err, w.session.store(w.SessionFD))
}

// due returns the certificates that are missing, wrong, or to be renewed.
func (w *work) due() (list []Certificate) {
	for _, c := range w.Certificates {
		leaf, err := held(c, time.Now())
		if err != nil || !time.Now().Before(renewAt(leaf)) {
			list = append(list, c)
		}
	}
	return list
}

// sign gets certificates and brings them into use. One that fails keeps no other from being
// tried; the first error counts, and that of the server's before it.
func (w *work) sign(ctx context.Context, due []Certificate) (first error) {
	again := w.AppRole != nil
	for _, c := range due {
		p, err := w.client.request(ctx, c)
		if again && isForbidden(err) {
			again = false // the login may have been revoked, which Vault does not tell apart
			w.session.forget()
			if loginErr := w.logIn(ctx); loginErr != nil {
				return loginErr
			}
			p, err = w.client.request(ctx, c)
		}
		if err == nil {
			err = put(realDisk{}, c, p)
			clear(p.key)
		}
		if err != nil {
			w.failed = true
			if w.problems == nil {
				w.problems = map[string]string{}
			}
			w.problems[c.Directory] = message(err)
			w.Log.Error("a certificate is not renewed", "directory", c.Directory, "cause", err)
			if c.Server || first == nil {
				first = err
			}
			continue
		}
		w.changed = w.changed || c.Server
		delete(w.problems, c.Directory)
		w.Log.Info("a certificate is renewed", "directory", c.Directory, "serial", p.leaf.SerialNumber.Text(16), "not_after", p.leaf.NotAfter.UTC())
	}
	return first
}

// report tells the front.
func (w *work) report(err error) error {
	now := time.Now()
	r := report.Report{At: now}
	if w.session != nil {
		r.LoginUntil = w.session.Expires
	}
	if err = errors.Join(err, w.problem); err != nil {
		r.Problem = message(err)
	}
	for _, c := range w.Certificates {
		entry := report.Certificate{Name: c.Directory, Server: c.Server, Problem: w.problems[c.Directory]}
		if leaf, err := held(c, now); err == nil {
			entry.Serial, entry.NotAfter, entry.RenewAt = leaf.SerialNumber.Text(16), leaf.NotAfter, renewAt(leaf)
		} else if entry.Problem == "" {
			entry.Problem = err.Error()
		}
		r.Certificates = append(r.Certificates, entry)
	}
	return report.Write(w.Report, r)
}
