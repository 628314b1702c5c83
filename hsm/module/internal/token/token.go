// Package token is the layer above PKCS#11: one logged-in token, a bounded pool of
// long-lived sessions, and the few calls that keyd makes.
//
// Rules. The library is loaded only in the process that was executed for it. One
// session, the keeper, stays open and logged in for the life of the process and owns
// every session object that outlives an operation. A session in which a call failed
// is closed, not used again. What a return value means stands in one table (ckr.go);
// a value that is not there means the token is dead, and the process ends.
//
// Calls that carry a clear value go through C of keyd's own (direct.h) into memory of the
// caller's, which is locked (package locked); all others use miekg/pkcs11. Sizes are in
// bytes.
//
// Besides session keys the token holds master keys, key pairs ([Pair]) and data objects
// ([Data]), found by their labels. What a label leads to is believed only after its
// attributes were read back.
//
// Only hsm/module uses it.
package token

/*
#cgo CFLAGS: -O2 -Wall
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "direct.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// Library is a loaded and initialised PKCS#11 library.
type Library struct {
	ctx    *pkcs11.Ctx
	direct *C.keyd_library
}

// Load loads the library at path, which must be absolute; symbolic links are
// resolved first. C_Initialize is called once, with operating-system locking, and with
// parameters where the library takes some in pReserved, as NSS softokn does; else they are
// empty.
func Load(path, parameters string) (*Library, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("PKCS#11 library %q: the path must be absolute", path)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 library: %w", err)
	}
	name := C.CString(resolved)
	defer C.free(unsafe.Pointer(name))
	var problem *C.char
	direct := C.keyd_open(name, &problem)
	if direct == nil {
		return nil, fmt.Errorf("PKCS#11 library %s: %s", resolved, C.GoString(problem))
	}
	ctx := pkcs11.New(resolved)
	if ctx == nil {
		return nil, fmt.Errorf("PKCS#11 library %s cannot be loaded", resolved)
	}
	var own *C.char
	if parameters != "" {
		// NSS may copy its database where the file system is slow, and then does not see
		// what other processes write, the pin of the epoch for one.
		if err := os.Setenv("NSS_SDB_USE_CACHE", "no"); err != nil {
			return nil, err
		}
		own = C.CString(parameters)
		defer C.free(unsafe.Pointer(own))
	}
	if err := call("C_Initialize", uint(C.keyd_initialize(direct, own))); err != nil {
		return nil, err
	}
	return &Library{ctx: ctx, direct: direct}, nil
}

// FindToken returns the slot of the initialised token with that label.
func (l *Library) FindToken(label string) (slot uint, info pkcs11.TokenInfo, err error) {
	slots, err := l.ctx.GetSlotList(true)
	if err != nil {
		return 0, info, named("C_GetSlotList", err)
	}
	found := false
	for _, candidate := range slots {
		ti, err := l.ctx.GetTokenInfo(candidate)
		if err != nil || ti.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 || trimmed(ti.Label) != label {
			continue
		}
		if found {
			return 0, info, fmt.Errorf("more than one token has the label %q", label)
		}
		slot, info, found = candidate, ti, true
	}
	if !found {
		return 0, info, fmt.Errorf("%w: %q", ErrNoToken, label)
	}
	return slot, info, nil
}

// trimmed is a label without what fills it up to 32 bytes.
func trimmed(label string) string { return strings.TrimRight(label, " \x00") }

// ErrNoToken is returned where no token has the label asked for.
var ErrNoToken = errors.New("no initialised token has this label")

// Token is a logged-in token.
type Token struct {
	lib  *Library
	slot uint
	Info pkcs11.TokenInfo

	keyWrapPad  uint // the number of AES-KWP in this token
	knows       Knows
	lacks       sync.Map    // names of probes whose mechanism it does not have
	keepsNoData atomic.Bool // found out by the first object that it refused

	pool chan *Session // idle sessions
	all  []*Session

	// renewal is held for reading by every operation and for writing while the keeper
	// is replaced: a handle from before could name another object afterwards.
	renewal  sync.RWMutex
	renewing atomic.Int64 // Unix nanoseconds at which the keeper's replacement began; 0: none

	mu         sync.Mutex // one call at a time on the keeper
	keeper     pkcs11.SessionHandle
	generation atomic.Uint64 // of the objects that the keeper owns

	// tokenObjects is held while token objects are searched for, read, made or destroyed.
	// Where one session makes or destroys them SoftHSM 2.6.1 fails in another that
	// searches or reads: CKR_GENERAL_ERROR, after which the process would end. What
	// merely uses a key that stays needs no lock.
	tokenObjects sync.Mutex

	tallies tallies

	steps Steps
}

// Open opens sessions on a slot, logs in with the PIN in pin (which the caller
// wipes), finds out what tokens do differently, and returns the token. A wrong PIN is not
// tried again.
func (l *Library) Open(slot uint, info pkcs11.TokenInfo, pin []byte, sessions int) (*Token, error) {
	t := &Token{lib: l, slot: slot, Info: info, pool: make(chan *Session, sessions)}
	t.generation.Store(1)
	var err error
	if t.keeper, err = t.openSession(); err != nil {
		return nil, err
	}
	if len(pin) == 0 {
		return nil, errors.New("the token PIN is empty")
	}
	rv := C.keyd_login(l.direct, C.keyd_ulong(t.keeper), pkcs11.CKU_USER, unsafe.Pointer(&pin[0]), C.keyd_ulong(len(pin)))
	if err := call("C_Login", uint(rv)); err != nil {
		return nil, err
	}
	if err := t.learn(); err != nil {
		return nil, err
	}
	for range sessions {
		s, err := newSession(t)
		if err != nil {
			return nil, err
		}
		t.all = append(t.all, s)
		t.pool <- s
	}
	t.trySteps()
	return t, nil
}

func (t *Token) openSession() (pkcs11.SessionHandle, error) {
	h, err := t.lib.ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	return h, named("C_OpenSession", err)
}

// Sessions returns how many sessions the pool has.
func (t *Token) Sessions() int { return len(t.all) }

// Generation counts how often the keeper's objects have been lost. Whoever holds
// object handles remembers the generation they are of.
func (t *Token) Generation() uint64 { return t.generation.Load() }

// Renew replaces the keeper if generation is still current, so that all its objects
// are gone and must be made again. It is called after [HandleStale], outside of
// [Token.Do], and waits for the operations under way.
func (t *Token) Renew(generation uint64) error {
	t.renewal.Lock()
	defer t.renewal.Unlock()
	t.renewing.Store(time.Now().UnixNano())
	defer t.renewing.Store(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.generation.Load() != generation {
		return nil // somebody else did
	}
	fresh, err := t.openSession()
	if err != nil {
		return err
	}
	_ = t.lib.ctx.CloseSession(t.keeper) // it may be gone already
	t.keeper = fresh
	t.generation.Add(1)
	return nil
}

// Do runs f with a session of the pool. If f returns a token error the session is
// replaced before anybody else can get it. Do waits while all sessions are in use.
func (t *Token) Do(f func(*Session) error) error {
	s := <-t.pool
	t.renewal.RLock()
	defer t.renewal.RUnlock()
	s.since.Store(time.Now().UnixNano())
	err := f(s)
	s.scratch.Wipe()
	var failed *Error
	if errors.As(err, &failed) && failed.Class() != TokenDead { // of a dead token nothing more is asked
		if again := s.reopen(); again != nil {
			err = errors.Join(err, again)
		}
	}
	s.since.Store(0)
	t.pool <- s
	return err
}

// Stuck reports whether a session has been in one operation for longer than limit.
func (t *Token) Stuck(limit time.Duration) bool {
	now := time.Now().UnixNano()
	if since := t.renewing.Load(); since != 0 && now-since > int64(limit) {
		return true
	}
	for _, s := range t.all {
		if since := s.since.Load(); since != 0 && now-since > int64(limit) {
			return true
		}
	}
	return false
}
