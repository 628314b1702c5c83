package vault

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Names below a certificate's directory. current is a symbolic link to one of the versions;
// a reader that follows it finds a key and a certificate that belong together.
const (
	current         = "current"
	certificateFile = "certificate.pem"
	keyFile         = "key.pem"
	versionPrefix   = "v-"
	nextLink        = "next" // becomes current
)

// CheckDirectory wants a directory of this process's user that nobody else may change.
func CheckDirectory(what, dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return refused("%s: %v: make it, of the user that starts keyd", what, err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm()&0o022 != 0 || int(owner.Uid) != os.Geteuid() {
		return refused("%s: %s must be a directory that belongs to the user who starts keyd and that nobody else can write", what, dir)
	}
	return nil
}

// held reads the certificate that is in use, if it is all that was asked for.
func held(want Certificate, now time.Time) (*x509.Certificate, error) {
	dir := filepath.Join(want.Directory, current)
	b, err := os.ReadFile(filepath.Join(dir, certificateFile))
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for len(list) <= maxChain {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("it cannot be read")
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("it cannot be read")
	}
	if err := checkKey(filepath.Join(dir, keyFile), want); err != nil {
		return nil, err
	}
	roots, err := authorities("vault.certificates.authority", want.Authority)
	if err != nil {
		return nil, err
	}
	return list[0], fits(want, list[0], list[1:], roots, nil, now)
}

// checkKey wants a key of the right owner and mode. It is not read: root without its
// capabilities cannot, and it belongs to the certificate beside it, see [put].
func checkKey(path string, want Certificate) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm() != want.Mode || int(owner.Uid) != want.uid() || int(owner.Gid) != want.gid() {
		return errors.New("the key's owner or mode is another one")
	}
	return nil
}

func (c Certificate) uid() int {
	if c.UID < 0 {
		return os.Getuid()
	}
	return c.UID
}

func (c Certificate) gid() int {
	if c.GID < 0 {
		return os.Getgid()
	}
	return c.GID
}

// disk is what changes files. A test takes the power away between two of them.
type disk interface {
	Mkdir(path string) error
	// Write makes a file that is not there, of an owner, and has it reach the disk.
	Write(path string, content []byte, uid, gid int, mode os.FileMode) error
	Symlink(to, path string) error
	Rename(from, to string) error
	Remove(path string) error
	Sync(dir string) error
}

// put brings a pair into use: in a directory of its own, to which current then points. At
// every moment, whether power or process goes, current leads to a whole pair: the old one or
// the new. What an earlier process has left unfinished is removed, and the pair before the
// old one, which nobody reads any more.
func put(d disk, c Certificate, p *pair) error {
	name := make([]byte, 8)
	if _, err := rand.Read(name); err != nil {
		return err
	}
	version := versionPrefix + hex.EncodeToString(name)
	dir := filepath.Join(c.Directory, version)
	old, err := os.Readlink(filepath.Join(c.Directory, current))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return refused("%s is no link of keyd's: move it away", filepath.Join(c.Directory, current))
	}
	if err := tidy(d, c.Directory, old); err != nil {
		return err
	}
	link := filepath.Join(c.Directory, nextLink)
	for _, step := range []func() error{
		func() error { return d.Mkdir(dir) },
		func() error { return d.Write(filepath.Join(dir, keyFile), p.key, c.UID, c.GID, c.Mode) },
		func() error { return d.Write(filepath.Join(dir, certificateFile), p.chain, -1, -1, 0o644) },
		func() error { return d.Sync(dir) },
		func() error { return d.Sync(c.Directory) },
		func() error { return d.Symlink(version, link) },
		func() error { return d.Rename(link, filepath.Join(c.Directory, current)) },
		func() error { return d.Sync(c.Directory) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("vault.certificates: %w", err)
		}
	}
	return nil
}

// tidy removes every version but the one in use: what reads files does so at once, and the
// one in use stays until the next renewal.
func tidy(d disk, dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return refused("vault.certificates.directory: %v", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == nextLink && e.Type()&fs.ModeSymlink != 0:
			if err := d.Remove(path); err != nil {
				return err
			}
		case strings.HasPrefix(e.Name(), versionPrefix) && e.IsDir() && e.Name() != keep:
			for _, f := range []string{keyFile, certificateFile} {
				if err := d.Remove(filepath.Join(path, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			if err := d.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// realDisk is the file system.
type realDisk struct{}

func (realDisk) Mkdir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755) // whatever the umask
}

func (realDisk) Write(path string, content []byte, uid, gid int, mode os.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // while it is this user's
		return err
	}
	if uid >= 0 || gid >= 0 {
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (realDisk) Symlink(to, path string) error { return os.Symlink(to, path) }
func (realDisk) Rename(from, to string) error  { return os.Rename(from, to) }
func (realDisk) Remove(path string) error      { return os.Remove(path) }
func (realDisk) Sync(dir string) error         { return syncDirectory(dir) }

// syncDirectory has a directory's entries reach the disk.
func syncDirectory(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
