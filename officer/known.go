package officer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

var (
	// ErrUnknown is returned for a server that the officer has not confirmed yet.
	ErrUnknown = errors.New("this server was never confirmed")
	// ErrIdentityChanged is returned where the module signs with another identity than the
	// one that the officer confirmed.
	ErrIdentityChanged = errors.New("the identity of the module has changed")
	// ErrRosterChanged is returned where the module is the same and its officers, or their
	// quorum, are others.
	ErrRosterChanged = errors.New("the roster of officers has changed")
)

const (
	knownVersion = 1
	maxKnownFile = 1 << 20 // bytes
	maxName      = 255     // bytes
)

// Known is whom an officer has confirmed: for each server, the fingerprints of the
// module's identity and of the roster. It is what stands between an officer and a server
// that hands in a key of its own. One goroutine uses it at a time; several processes may
// use its file.
type Known struct {
	path    string
	servers map[string]pinned
}

type pinned struct {
	Identity Fingerprint `json:"identity"`
	Roster   Fingerprint `json:"roster"`
}

type knownFile struct {
	Version int               `json:"version"`
	Servers map[string]pinned `json:"servers"`
}

// DefaultKnown returns the path of an officer's file: ~/.config/keyd/known.json, or where
// XDG_CONFIG_HOME says.
func DefaultKnown() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("where confirmed servers are kept: %w; name the file", err)
	}
	return filepath.Join(dir, "keyd", "known.json"), nil
}

// Load reads the file at path. A file that is not there is empty: nobody was confirmed. A
// file that others may write, or that is not as [Known.Trust] leaves it, is an error.
func Load(path string) (*Known, error) {
	servers, err := readKnown(path)
	if err != nil {
		return nil, fmt.Errorf("confirmed servers: %w", err)
	}
	return &Known{path: path, servers: servers}, nil
}

// Names returns the servers that were confirmed, sorted.
func (k *Known) Names() []string { return slices.Sorted(maps.Keys(k.servers)) }

// Check compares what a server shows with what the officer has confirmed for it. The name
// is HOST:PORT as the officer gave it, or a name of the officer's. Errors are ErrUnknown,
// ErrIdentityChanged (whatever the roster is) and ErrRosterChanged; on any of them nothing
// more may be said to the server.
func (k *Known) Check(name string, identity, roster Fingerprint) error {
	if err := checkName(name); err != nil {
		return err
	}
	was, ok := k.servers[name]
	switch {
	case !ok:
		return fmt.Errorf(`%w: %q
  identity %s
  roster   %s
compare both with what the other officers were shown, by telephone or on paper, and confirm them before anything else`,
			ErrUnknown, name, identity, roster)
	case !was.Identity.Equal(identity):
		return fmt.Errorf(`%w: %q
  confirmed %s
  now       %s
this is another module, or somebody in between: type in no component and approve nothing; if the token was replaced, the other officers know of it, and the new one is confirmed like the first`,
			ErrIdentityChanged, name, was.Identity, identity)
	case !was.Roster.Equal(roster):
		return fmt.Errorf(`%w: %q
  confirmed %s
  now       %s
officers or their quorum were changed; if you did not approve that yourself, ask the other officers who did, and confirm the new roster only when they agree`,
			ErrRosterChanged, name, was.Roster, roster)
	}
	return nil
}

// Trust records what the officer has just confirmed for a server, in place of what was
// there. The file is replaced as a whole, mode 0600, and is on the disk when Trust
// returns; what another process recorded in the meantime is kept.
func (k *Known) Trust(name string, identity, roster Fingerprint) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := k.trust(name, pinned{identity, roster}); err != nil {
		return fmt.Errorf("confirmed servers: %w", err)
	}
	return nil
}

func (k *Known) trust(name string, p pinned) error {
	dir := filepath.Dir(k.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // which gives back the lock
	// The directory is locked, not the file: the file is replaced.
	if err := lock(d); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	servers, err := readKnown(k.path)
	if err != nil {
		return err
	}
	servers[name] = p
	if err := replaceKnown(k.path, servers); err != nil {
		return err
	}
	k.servers = servers
	return d.Sync()
}

func lock(d *os.File) error {
	for {
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func replaceKnown(path string, servers map[string]pinned) (err error) {
	text, err := json.MarshalIndent(knownFile{knownVersion, servers}, "", "  ")
	if err != nil {
		return err
	}
	if len(text)+1 > maxKnownFile {
		return fmt.Errorf("%s would have more than %d bytes: remove servers from it that are gone", path, maxKnownFile)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".known-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func readKnown(path string) (map[string]pinned, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]pinned{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("others may change %s: look at what it holds, then chmod 600 it", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKnownFile+1))
	if err != nil {
		return nil, err
	}
	servers, err := parseKnown(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; repair it, or remove it and confirm every server again", path, err)
	}
	return servers, nil
}

// parseKnown is strict: a name twice, or an entry without a fingerprint, is an error.
func parseKnown(text []byte) (map[string]pinned, error) {
	if len(text) > maxKnownFile {
		return nil, fmt.Errorf("more than %d bytes", maxKnownFile)
	}
	var file struct {
		Version int             `json:"version"`
		Servers json.RawMessage `json:"servers"`
	}
	if err := decodeStrictly(text, &file); err != nil {
		return nil, err
	}
	if file.Version != knownVersion {
		return nil, fmt.Errorf("version %d is not known to this keyd, which writes %d", file.Version, knownVersion)
	}
	d := json.NewDecoder(bytes.NewReader(file.Servers))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("servers is no object")
	}
	servers := map[string]pinned{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if err := checkName(name); err != nil {
			return nil, err
		}
		if _, twice := servers[name]; twice {
			return nil, fmt.Errorf("%q stands there twice", name)
		}
		var entry json.RawMessage
		if err := d.Decode(&entry); err != nil {
			return nil, err
		}
		var p struct {
			Identity *Fingerprint `json:"identity"`
			Roster   *Fingerprint `json:"roster"`
		}
		if err := decodeStrictly(entry, &p); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if p.Identity == nil || p.Roster == nil {
			return nil, fmt.Errorf("%q lacks identity or roster", name)
		}
		servers[name] = pinned{*p.Identity, *p.Roster}
	}
	return servers, nil
}

func decodeStrictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the end")
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("a server's name has 1 to %d bytes of UTF-8", maxName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return errors.New("a server's name has printable characters only")
		}
	}
	return nil
}

// Confirmed returns what was confirmed for a server, or [ErrUnknown].
func (k *Known) Confirmed(name string) (identity, roster Fingerprint, err error) {
	was, ok := k.servers[name]
	if !ok {
		return identity, roster, fmt.Errorf("%w: %q; %s has %q", ErrUnknown, name, k.path, k.Names())
	}
	return was.Identity, was.Roster, nil
}
