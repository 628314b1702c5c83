package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"keyd/supervisor/confine"
)

// Options are what the supervisor tells the process, as JSON in a memory file. There is no
// secret in them.
type Options struct {
	Address   string // https://HOST:PORT, or http:// and a loopback address
	CA        string // PEM file of the authorities of Vault's certificate
	Namespace string

	TokenFile string
	AppRole   *AppRole // in place of TokenFile

	PIN          *PIN
	Certificates []Certificate

	StartTimeout time.Duration // how long Start waits for a Vault that is away
	Interval     time.Duration // between the beginnings of Renew
}

// AppRole is a login by role and secret-id.
type AppRole struct {
	Mount, Role, RoleID string
	SecretIDFile        string
	Wrapped             bool // the file holds a response-wrapping token
}

// PIN is where the token PIN is.
type PIN struct {
	Mount, Path, Field string
	Version            int // 0 for the newest
}

// Certificate is one certificate that is kept.
type Certificate struct {
	Directory   string
	Mount, Role string
	CommonName  string
	DNSNames    []string
	Addresses   []string
	URIs        []string
	TTL         time.Duration
	Authority   string // PEM file
	UID, GID    int    // of the key; -1 for this process's own
	Mode        os.FileMode
	Server      bool // the front serves with it
}

// maxOptions bounds the options in bytes.
const maxOptions = 64 << 10

// ReadOptions reads the options from a file whose offset is left alone: other processes
// read it too.
func ReadOptions(f *os.File) (*Options, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxOptions+1))
	if err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	o := &Options{}
	if len(b) > maxOptions || json.Unmarshal(b, o) != nil {
		return nil, errors.New("options: they are not the supervisor's")
	}
	return o, nil
}

// port is Vault's.
func (o *Options) port() uint16 {
	u, err := url.Parse(o.Address)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// paths are the files that the process needs. A file that is renamed needs its directory.
func (o *Options) paths() (p confine.Paths) {
	secret := o.TokenFile
	if o.AppRole != nil {
		secret = o.AppRole.SecretIDFile
	}
	switch info, err := os.Stat(secret); {
	case o.AppRole != nil && o.AppRole.Wrapped:
		p.WriteDirs = append(p.WriteDirs, filepath.Dir(secret))
	case err == nil && info.Mode().IsRegular(): // what is missing is said when it is read
		p.ReadFiles = append(p.ReadFiles, secret)
	}
	if o.CA != "" {
		p.ReadFiles = append(p.ReadFiles, o.CA)
	}
	for _, c := range o.Certificates {
		p.WriteDirs = append(p.WriteDirs, c.Directory)
		p.ReadFiles = append(p.ReadFiles, c.Authority)
	}
	return p
}
