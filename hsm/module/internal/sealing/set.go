package sealing

import (
	"crypto/subtle"
	"errors"
	"sync"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// Set is the master keys of the generations that a token has. It is safe for concurrent
// use.
type Set struct {
	mu    sync.RWMutex
	known map[uint32]*Masters
}

// NewSet returns the set with these master keys; others are found when they are needed.
func NewSet(masters ...*Masters) *Set {
	s := &Set{known: make(map[uint32]*Masters)}
	for _, m := range masters {
		s.known[m.Generation] = m
	}
	return s
}

// Of returns the master keys of a generation. The error wraps [ErrNoMasters] if the token
// does not have them.
func (s *Set) Of(session *token.Session, generation uint32) (*Masters, error) {
	s.mu.RLock()
	m := s.known[generation]
	s.mu.RUnlock()
	if m != nil {
		return m, nil
	}
	m, err := FindMasters(session, generation)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[generation] = m
	return m, nil
}

// code makes the code of a message by a generation's master keys, and returns these. Another
// module may have retired them, or made them anew, since they were found: then they are looked
// for once more.
func (s *Set) code(session *token.Session, generation uint32, out, message []byte) (*Masters, error) {
	m, err := s.Of(session, generation)
	if err != nil {
		return nil, err
	}
	if err = code(session, m.mac, out, message); err == nil || token.ClassOf(err) != token.HandleStale {
		return m, err
	}
	s.Forget(generation)
	if m, err = s.Of(session, generation); err != nil {
		return nil, err
	}
	return m, code(session, m.mac, out, message)
}

// Authenticate is [Masters.Authenticate] by the master keys of a generation. The error wraps
// [ErrNoMasters] if the token does not have them.
func (s *Set) Authenticate(session *token.Session, generation uint32, out []byte, purpose string, document []byte) error {
	_, err := s.code(session, generation, out, coded(purpose, document))
	return err
}

// Authentic checks a sealed key's MAC and returns the key without unsealing it. What was
// altered is a [fault.KeySealInvalid].
func (s *Set) Authentic(session *token.Session, sealed []byte) (*hsm.Sealed, error) {
	parsed, _, err := s.open(session, sealed)
	return parsed, err
}

// Read unseals a key into locked memory of the caller's and returns its length: for keys
// that leave as key blocks. A key that no process may read is a [fault.ExportForbidden].
func (s *Set) Read(session *token.Session, sealed, out []byte) (int, error) {
	parsed, masters, err := s.open(session, sealed)
	if err != nil {
		return 0, err
	}
	if parsed.Header.Custody != hsm.CustodyModule {
		return 0, fault.New(fault.ExportForbidden, "the key was sealed never to be read")
	}
	if len(parsed.Wrapped) == 0 {
		return 0, fault.New(fault.ExportForbidden, "the key lies in the token")
	}
	n, err := session.UnwrapReadable(token.CKMAESKeyWrapPad, masters.wrapModule, parsed.Wrapped[0], out)
	if err != nil {
		return 0, err
	}
	if n < int(parsed.Header.Length) {
		clear(out)
		return 0, errors.New("a sealed key is shorter than its header says")
	}
	return int(parsed.Header.Length), nil
}

// open checks a sealed key's MAC and returns it with the master keys that sealed it. What
// was altered, or sealed by no generation that is here, is a [fault.KeySealInvalid].
func (s *Set) open(session *token.Session, sealed []byte) (*hsm.Sealed, *Masters, error) {
	parsed, err := hsm.ParseSealed(sealed)
	if err != nil {
		return nil, nil, fault.New(fault.KeySealInvalid, "")
	}
	var mac [hsm.MACSize]byte
	masters, err := s.code(session, parsed.Header.Generation, mac[:], parsed.Body)
	if errors.Is(err, ErrNoMasters) {
		return nil, nil, fault.New(fault.KeySealInvalid, "")
	}
	if err != nil {
		return nil, nil, err
	}
	if subtle.ConstantTimeCompare(mac[:], parsed.MAC) != 1 {
		return nil, nil, fault.New(fault.KeySealInvalid, "")
	}
	// From here on everything was sealed by a module: what does not fit is a bug.
	h := parsed.Header
	if h.Custody != hsm.CustodyToken && h.Custody != hsm.CustodyModule || len(parsed.Wrapped) != parts(h) {
		return nil, nil, errors.New("sealed key with an impossible header")
	}
	return parsed, masters, nil
}
