package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"keyd/config"
	"keyd/supervisor"
)

// processUsers are the users under which front and modules run; nil keeps this
// process's own.
type processUsers struct{ front, module *supervisor.User }

func (u processUsers) separated() bool { return u.front != nil && u.module != nil }

// Users of a development service that root starts: numbers from the range that no
// account is given, as systemd uses for services without an account.
var (
	developmentFront  = &supervisor.User{UID: 65500, GID: 65500}
	developmentModule = &supervisor.User{UID: 65501, GID: 65501}
)

// separate decides under which users the processes run, and gives each its own files.
func separate(c *config.Config, o Options) (processUsers, error) {
	if os.Geteuid() != 0 {
		return processUsers{}, nil
	}
	if !o.Development {
		return named(c)
	}
	users := processUsers{front: developmentFront, module: developmentModule}
	if blocked := unreachable(c.State); blocked != "" {
		o.Log.Warn("front and modules run as root without capabilities: other users cannot enter a directory above the service's",
			"directory", blocked, "mend", "use a directory that others may pass through (chmod o+x)")
		users = processUsers{front: &supervisor.User{}, module: &supervisor.User{}}
	}
	private := []string{c.State, c.TLS.Key}
	if p := c.Database.Postgres; p != nil {
		private = append(private, p.PasswordFile)
	}
	for _, path := range private {
		if err := own(path, users.front); err != nil {
			return users, err
		}
	}
	for _, d := range c.Token.Directories {
		if err := own(d, users.module); err != nil {
			return users, err
		}
	}
	if users.front.UID == 0 {
		return processUsers{}, nil
	}
	return users, nil
}

// named looks up the accounts of a configuration.
func named(c *config.Config) (users processUsers, err error) {
	if c.Users.Front == "" {
		return users, errors.New("keyd was started as root: name the accounts of front and modules under users (useradd --system keyd-front; useradd --system keyd-module)")
	}
	if users.front, err = lookup(c.Users.Front); err != nil {
		return processUsers{}, err
	}
	if users.module, err = lookup(c.Users.Module); err != nil {
		return processUsers{}, err
	}
	if users.front.UID == users.module.UID {
		return processUsers{}, errors.New("users: front and module are the same account")
	}
	return users, nil
}

func lookup(name string) (*supervisor.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		// A number needs no account: containers often have none.
		if _, bad := strconv.ParseUint(name, 10, 32); bad != nil {
			return nil, fmt.Errorf("users: there is no account %q: useradd --system %s", name, name)
		}
		u = &user.User{Uid: name, Gid: name}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("users: account %q: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("users: account %q: %w", name, err)
	}
	if uid == 0 {
		return nil, errors.New("users: neither front nor module may be root")
	}
	return &supervisor.User{UID: uint32(uid), GID: uint32(gid)}, nil
}

// unreachable returns the first directory above path that other users cannot enter.
func unreachable(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// own gives a directory and what is in it to a user.
func own(dir string, u *supervisor.User) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(u.UID), int(u.GID))
	})
}
