package service

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"keyd/audit"
	"keyd/config"
	"keyd/hsm/module"
	"keyd/policies"
	"keyd/server"
	"keyd/tracing"
	"keyd/vault"
)

// Check looks at everything that a configuration names and returns what is wrong, in
// sentences for an operator.
func Check(c *config.Config) (problems []error) {
	add := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	add(checkTLS(c))
	policy, err := policies.Load(c.Policy)
	add(err)
	add(checkWeb(c, policy))
	add(checkLibrary(c))
	if _, err := net.ResolveTCPAddr("tcp", c.Listen); err != nil {
		add(fmt.Errorf("listen: %w", err))
	}
	for _, f := range c.Token.Files {
		if _, err := os.Stat(f); err != nil {
			add(fmt.Errorf("token.files: %w", err))
		}
	}
	if c.Tracing.CA != "" {
		_, err := tracing.Authorities(c.Tracing.CA)
		add(err)
	}
	if p := c.Database.Postgres; p != nil {
		for what, f := range map[string]string{"database.postgres.password_file": p.PasswordFile, "database.postgres.key": p.Key} {
			if f != "" {
				add(checkPrivate(what, f))
			}
		}
		for what, f := range map[string]string{"database.postgres.ca": p.CA, "database.postgres.certificate": p.Certificate} {
			if f == "" {
				continue
			}
			if _, err := os.Stat(f); err != nil {
				add(fmt.Errorf("%s: %w", what, err))
			}
		}
	}
	if c.Token.PINVault == nil {
		add(checkPrivate("token.pin_file", c.Token.PINFile))
	}
	if kept, _ := vaultsServer(c); !kept {
		add(checkPrivate("tls.key", c.TLS.Key))
	}
	problems = append(problems, checkVault(c)...)
	add(checkPrivate("state", c.State))
	for _, d := range c.Token.Directories {
		add(checkPrivate("token.directories", d))
	}
	add(checkVelocity(c.Velocity))
	add(checkCheckpoints(c.Audit.Checkpoints))
	add(checkLedger(c.Ledger))
	add(audit.CheckOld(c.State))
	if os.Geteuid() != 0 {
		return problems
	}
	users, err := named(c)
	if err != nil {
		return append(problems, err)
	}
	const own, open = "chown it to that user", "chmod 644 it"
	public := []string{c.Policy, c.TLS.Certificate, c.TLS.ClientCA}
	if c.Web.Listen != "" {
		public = append(public, c.Web.Certificate)
		add(checkAccess("users.front", users.front, c.Web.Key, read, own))
	}
	if c.Tracing.CA != "" {
		public = append(public, c.Tracing.CA)
	}
	for _, f := range public {
		add(checkAccess("users.front", users.front, f, read, open))
	}
	if p := c.Database.Postgres; p != nil {
		for _, f := range []string{p.PasswordFile, p.Key, p.CA, p.Certificate} {
			if f != "" {
				add(checkAccess("users.front", users.front, f, read, own))
			}
		}
	}
	add(checkAccess("users.front", users.front, c.TLS.Key, read, own))
	add(checkAccess("users.front", users.front, c.State, read|write, own))
	for _, f := range c.Token.Files {
		add(checkAccess("users.module", users.module, f, read, open))
	}
	for _, d := range c.Token.Directories {
		err := checkAccess("users.module", users.module, d, read|write, own)
		if err == nil {
			err = checkTree("users.module", users.module, d, fmt.Sprintf("chown it to that user; after initialising a token, chown -R %s: %s", c.Users.Module, d))
		}
		add(err)
	}
	return problems
}

// checkTLS reads the files as a front does.
func checkTLS(c *config.Config) error {
	if _, missing := vaultsServer(c); missing {
		return vault.CheckAuthorities("tls.client_ca", c.TLS.ClientCA) // the rest comes with the first start
	}
	identity, err := server.LoadTLS(server.TLSFiles{Certificate: c.TLS.Certificate, Key: c.TLS.Key, ClientCA: c.TLS.ClientCA})
	if err == nil {
		err = identity.CheckTime(time.Now())
	}
	if err != nil {
		return fmt.Errorf("tls.certificate, tls.key, tls.client_ca: %w", err)
	}
	return nil
}

// checkWeb reads the files of the pages as a front does, and wants a certificate for the host that the
// policy, which may be nil, sends phones to.
func checkWeb(c *config.Config, policy *policies.Policy) error {
	if c.Web.Listen == "" {
		return nil
	}
	if _, err := net.ResolveTCPAddr("tcp", c.Web.Listen); err != nil {
		return fmt.Errorf("web.listen: %w", err)
	}
	identity, err := server.LoadWebTLS(c.Web.Certificate, c.Web.Key)
	if err == nil {
		err = identity.CheckTime(time.Now())
	}
	if err == nil {
		if v := policy.Voids(); v != nil && v.Phone != nil {
			err = identity.CheckHost(v.CodeHost)
		}
	}
	if err != nil {
		return fmt.Errorf("web.certificate, web.key: %w", err)
	}
	return checkPrivate("web.key", c.Web.Key)
}

func checkLibrary(c *config.Config) error {
	info, err := os.Stat(c.Token.Library)
	if err != nil {
		return fmt.Errorf("token.library: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("token.library: %s must be a regular file that only its owner may change", c.Token.Library)
	}
	return nil
}

// checkVelocity wants a file that fits the configuration, or none yet, in a directory that
// only this user can write: whoever takes the file away gives everybody's tries back.
func checkVelocity(v config.Velocity) error {
	if err := checkOwn("velocity.file", v.File); err != nil {
		return err
	}
	if _, err := os.Lstat(v.File); errors.Is(err, fs.ErrNotExist) {
		return nil // it is made at the first start
	}
	if err := module.CheckVelocity(v.File, v.Entries); err != nil {
		return fmt.Errorf("velocity.file: %w", err)
	}
	return nil
}

// checkCheckpoints wants the same of the file of checkpoints: whoever takes it away lets a front
// show another history.
func checkCheckpoints(path string) error {
	if err := checkOwn("audit.checkpoints", path); err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil // it is made at the first start
	}
	if err := module.CheckCheckpoints(path); err != nil {
		return fmt.Errorf("audit.checkpoints: %w", err)
	}
	return nil
}

// checkLedger wants the same of the ledger: whoever takes it away gets initial keys a second
// time.
func checkLedger(path string) error {
	if err := checkOwn("ledger", path); err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil // it is made at the first start
	}
	return module.CheckLedger(path)
}

// checkOwn wants a file in a directory of the present user's, whom nobody else can write to.
func checkOwn(what, path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm()&0o022 != 0 || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s: %s must be a directory that belongs to the user who starts keyd and that nobody else can write", what, dir)
	}
	return nil
}

// checkPrivate wants a file or directory that nobody but its owner may use.
func checkPrivate(what, path string) error {
	if path == config.Prompt {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if directory := what == "state" || what == "token.directories"; directory != info.IsDir() {
		return fmt.Errorf("%s: %s is of the wrong kind", what, path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		mode := "600"
		if info.IsDir() {
			mode = "700"
		}
		return fmt.Errorf("%s: others may use %s: chmod %s it", what, path, mode)
	}
	return nil
}
