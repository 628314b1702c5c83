package card

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/miekg/pkcs11"
)

// library is a loaded PKCS#11 library. C_Initialize is one per process, so cards of the
// same library share it, and the last one to be closed finalises it. It stays loaded:
// some libraries leave behind what would run at the exit of the process.
type library struct {
	ctx   *pkcs11.Ctx
	users int
	ours  bool // this package called C_Initialize
}

var (
	librariesMu sync.Mutex
	libraries   = map[string]*library{} // by resolved path
)

// load loads the library at path, which must be absolute: a name alone would be searched
// for in places that others may write. Symbolic links are resolved.
func load(path string) (*library, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("PKCS#11 library %q: give the absolute path", path)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 library: %w", err)
	}
	librariesMu.Lock()
	defer librariesMu.Unlock()
	l := libraries[resolved]
	if l == nil {
		ctx := pkcs11.New(resolved)
		if ctx == nil {
			return nil, fmt.Errorf("PKCS#11 library %s cannot be loaded: see that it is one, and made for this processor", resolved)
		}
		l = &library{ctx: ctx}
		libraries[resolved] = l
	}
	if l.users == 0 {
		err := l.ctx.Initialize()
		// Somebody else in this process may use it: then it is theirs to finalise.
		l.ours = !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED))
		if err != nil && l.ours {
			return nil, named("C_Initialize", err)
		}
	}
	l.users++
	return l, nil
}

// release gives back what load returned.
func (l *library) release() error {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	if l.users--; l.users > 0 || !l.ours {
		return nil
	}
	return named("C_Finalize", l.ctx.Finalize())
}

// named gives a return value its function's name.
func named(call string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", call, err)
}
