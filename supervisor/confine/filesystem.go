package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Paths is what a process may open from now on. Everything else is refused, also for
// reading. Paths are absolute and exist. Nothing may be executed.
type Paths struct {
	ReadDirs  []string // directories with everything below, for reading
	WriteDirs []string // the same, also for writing, making and removing files
	ReadFiles []string // single files, for reading
}

const (
	readFile   = landlock.AccessFSSet(ll.AccessFSReadFile)
	readBelow  = readFile | ll.AccessFSReadDir
	writeBelow = readBelow | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir
)

// Landlock ABI versions that brought what the report tells apart.
const (
	abiTruncate  = 3
	abiTCP       = 4
	abiDevices   = 5
	abiScopes    = 6
	abiSignals   = 7 // ABI 6 has them, but could forbid signals between the threads of one process
	abiUDP       = 10
	unsupported  = "the kernel does not support Landlock, or it is not enabled"
	noTCP        = "Landlock ABI %d does not know TCP"
	noUDP        = "Landlock ABI %d does not know UDP"
	noDevices    = "Landlock ABI %d does not cover %s"
	noScopes     = "Landlock ABI %d does not know scopes"
	noSignals    = "Landlock ABI %d cannot tell signals between threads apart"
	seccompSaves = "; seccomp refuses sockets"
	seccompTCP   = "; seccomp refuses all sockets but TCP's"
)

// Filesystem restricts which files the process opens, which TCP ports it connects to
// (it binds none), and keeps its signals and abstract sockets to itself.
func (c *Confinement) Filesystem(p Paths) error {
	if err := c.enter(filesystem); err != nil {
		return err
	}
	_ = time.Now().Local().String() // reads the time zone while it can
	rules, err := p.rules(c.kind)
	if err != nil {
		return err
	}
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		c.note("landlock-files", Off, unsupported)
		c.note("landlock-network", Off, unsupported)
		c.note("landlock-scopes", Off, unsupported)
		return nil
	}
	config := landlock.V11
	if abi < abiSignals {
		config.Scoped &^= ll.ScopeSignal
	}
	for _, port := range c.network {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	if err := config.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("confine: Landlock: %w", err)
	}
	c.noteLandlock(abi)
	return nil
}

// rules checks and translates the paths. A missing one is a mistake in the
// configuration, not something to pass over. An unlock may also make symbolic links: by one
// it brings a certificate and its key into use together.
func (p Paths) rules(kind Kind) ([]landlock.Rule, error) {
	var rules []landlock.Rule
	writeBelow := writeBelow
	if kind == Unlock {
		writeBelow |= ll.AccessFSMakeSym
	}
	for _, group := range []struct {
		paths  []string
		access landlock.AccessFSSet
		dir    bool
	}{
		{p.ReadDirs, readBelow, true},
		{p.WriteDirs, writeBelow, true},
		{p.ReadFiles, readFile, false},
	} {
		for _, path := range group.paths {
			if !filepath.IsAbs(path) {
				return nil, fmt.Errorf("confine: %s is not an absolute path", path)
			}
			info, err := os.Stat(path)
			if err != nil {
				return nil, fmt.Errorf("confine: %w", err)
			}
			if info.IsDir() != group.dir {
				return nil, fmt.Errorf("confine: %s: %w", path, errKind)
			}
			rules = append(rules, landlock.PathAccess(group.access, path))
		}
	}
	return rules, nil
}

var errKind = errors.New("a directory is named as a file, or a file as a directory")

func (c *Confinement) noteLandlock(abi int) {
	switch {
	case abi < abiTruncate:
		c.note("landlock-files", Partial, fmt.Sprintf(noDevices, abi, "truncation and devices"))
	case abi < abiDevices:
		c.note("landlock-files", Partial, fmt.Sprintf(noDevices, abi, "devices"))
	default:
		c.note("landlock-files", On, "")
	}
	covered := ""
	switch {
	case len(c.network) == 0:
		covered = seccompSaves
	case c.kind != Module:
		covered = seccompTCP
	}
	switch {
	case abi < abiTCP:
		c.note("landlock-network", Off, fmt.Sprintf(noTCP, abi)+covered)
	case abi < abiUDP:
		c.note("landlock-network", Partial, fmt.Sprintf(noUDP, abi)+covered)
	default:
		c.note("landlock-network", On, "")
	}
	switch {
	case abi < abiScopes:
		c.note("landlock-scopes", Off, fmt.Sprintf(noScopes, abi))
	case abi < abiSignals:
		c.note("landlock-scopes", Partial, fmt.Sprintf(noSignals, abi))
	default:
		c.note("landlock-scopes", On, "")
	}
}
