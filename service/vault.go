package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"keyd/config"
	"keyd/supervisor"
	"keyd/supervisor/pinfile"
	"keyd/vault"
	"keyd/vault/report"
)

// unlockOnly is the unlock command of a run that only needs the PIN. What it returns besides is
// closed afterwards.
func unlockOnly(c *config.Config) (supervisor.Command, opened, error) {
	unlock := supervisor.Command{Args: unlockArgs(c)}
	if c.Token.PINVault == nil {
		return unlock, nil, nil
	}
	o, err := vaultOptions(c, processUsers{})
	if err != nil {
		return unlock, nil, err
	}
	o.Certificates = nil
	files, err := askVault(&unlock, o)
	return unlock, files, err
}

// withVault has unlock get from Vault what the configuration says, renews it, and has the
// front see how that stands.
func withVault(c *config.Config, users processUsers, s *supervisor.Config) (opened, error) {
	if !c.Vault.InUse() {
		return nil, nil
	}
	o, err := vaultOptions(c, users)
	if err != nil {
		return nil, err
	}
	files, err := askVault(&s.Unlock, o)
	if err != nil {
		return nil, err
	}
	// A login that nothing needs any more has been ended; a token in a file is kept alive for
	// the next start.
	if len(o.Certificates) > 0 || o.TokenFile != "" {
		s.Renew = &supervisor.Command{Args: []string{"internal", "renew"}, Env: quiet, Input: s.Unlock.Input, Files: s.Unlock.Files}
		s.RenewEvery = o.Interval
	}
	// A description of its own, for reading: what the front does to it is its own affair.
	seen, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(files[reportFile].Fd())))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("report on Vault: %w", err), files.Close())
	}
	s.Front.Files = append(s.Front.Files, supervisor.Inherited{Flag: "--vault-report-fd", File: seen})
	return append(files, seen), nil
}

// quiet keeps arguments of functions out of what a crash prints.
var quiet = []string{"GOTRACEBACK=none"}

// opened are descriptors that are passed on.
type opened []*os.File

const reportFile = 2 // index of the report among them

// Close implements [io.Closer].
func (o opened) Close() (err error) {
	for _, f := range o {
		err = errors.Join(err, f.Close())
	}
	return err
}

// askVault gives the unlock command the options, memory for the login, and memory for the
// report.
func askVault(unlock *supervisor.Command, o *vault.Options) (files opened, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, files.Close())
			files = nil
		}
	}()
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	input, err := memoryFile("keyd-vault-options", string(b))
	if err != nil {
		return nil, err
	}
	files = append(files, input)
	login, _, err := pinfile.Create()
	if err != nil {
		return files, err
	}
	files = append(files, login)
	told, err := report.Create()
	if err != nil {
		return files, err
	}
	files = append(files, told)
	unlock.Input, unlock.Env = input, quiet
	unlock.Files = []supervisor.Inherited{{Flag: "--login-fd", File: login}, {Flag: "--report-fd", File: told}}
	return files, nil
}

// vaultOptions translates the configuration.
func vaultOptions(c *config.Config, users processUsers) (*vault.Options, error) {
	v := c.Vault
	o := &vault.Options{
		Address: v.Address, CA: v.CA, Namespace: v.Namespace, TokenFile: v.TokenFile,
		StartTimeout: time.Duration(v.StartTimeout), Interval: time.Duration(v.Interval),
	}
	if v.TokenFile == "" {
		a := v.AppRole
		o.AppRole = &vault.AppRole{Mount: a.Mount, Role: a.Role, RoleID: a.RoleID, SecretIDFile: a.SecretIDFile, Wrapped: a.Wrapped}
	}
	if p := c.Token.PINVault; p != nil {
		o.PIN = &vault.PIN{Mount: p.Mount, Path: p.Path, Field: p.Field, Version: p.Version}
	}
	for i, certificate := range v.Certificates {
		one := vault.Certificate{
			Directory: certificate.Directory, Mount: certificate.Mount, Role: certificate.Role,
			CommonName: certificate.CommonName, DNSNames: certificate.DNSNames, Addresses: certificate.Addresses, URIs: certificate.URIs,
			TTL: time.Duration(certificate.TTL), Authority: certificate.Authority, UID: -1, GID: -1, Mode: 0o600, Server: i == c.Server(),
		}
		if certificate.Mode == "0640" {
			one.Mode = 0o640
		}
		owner := users.front
		if !one.Server {
			owner = nil
		}
		if certificate.Owner != "" {
			var err error
			if owner, err = lookup(certificate.Owner); err != nil {
				return nil, fmt.Errorf("vault.certificates[%d].owner: %w", i, err)
			}
			if os.Geteuid() != 0 && int(owner.UID) != os.Geteuid() {
				return nil, fmt.Errorf("vault.certificates[%d].owner: only root can give a key to another user", i)
			}
		}
		if owner != nil {
			one.UID, one.GID = int(owner.UID), int(owner.GID)
		}
		o.Certificates = append(o.Certificates, one)
	}
	return o, nil
}

// vaultsServer reports whether Vault keeps the server's certificate and there is none yet.
func vaultsServer(c *config.Config) (kept, missing bool) {
	if c.Server() < 0 {
		return false, false
	}
	_, err := os.Stat(c.TLS.Certificate)
	return true, errors.Is(err, fs.ErrNotExist)
}

// checkVault looks at the files that the section names. It does not ask Vault.
func checkVault(c *config.Config) (problems []error) {
	if !c.Vault.InUse() {
		return nil
	}
	add := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	v := c.Vault
	if v.CA != "" {
		add(vault.CheckAuthorities("vault.ca", v.CA))
	}
	secret, what := v.TokenFile, "vault.token_file"
	if secret == "" {
		secret, what = v.AppRole.SecretIDFile, "vault.approle.secret_id_file"
	}
	info, err := os.Lstat(secret)
	switch {
	case err == nil:
		add(vault.CheckPrivate(what, secret, info))
	case errors.Is(err, fs.ErrNotExist) && v.AppRole.Wrapped:
		add(fmt.Errorf("%s: there is no %s: a start needs a wrapped secret-id that has not been used", what, secret))
	default:
		add(fmt.Errorf("%s: %w", what, err))
	}
	if v.AppRole.Wrapped {
		add(vault.CheckDirectory("the directory of vault.approle.secret_id_file", filepath.Dir(v.AppRole.SecretIDFile)))
	}
	for i, certificate := range v.Certificates {
		add(vault.CheckDirectory(fmt.Sprintf("vault.certificates[%d].directory", i), certificate.Directory))
		add(vault.CheckAuthorities(fmt.Sprintf("vault.certificates[%d].authority", i), certificate.Authority))
	}
	users := processUsers{}
	if os.Geteuid() == 0 {
		users, err = named(c)
		if err != nil {
			return problems // Check says so itself
		}
		for i, certificate := range v.Certificates {
			if i == c.Server() {
				add(checkAccess("users.front", users.front, certificate.Directory, enter, "chmod 755 it"))
			}
		}
	}
	_, err = vaultOptions(c, users)
	add(err)
	return problems
}
