package working

import (
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// Keys are the keys that operations use. It is safe for concurrent use; each operation
// has a session of its own.
type Keys struct {
	token   *token.Token
	sealed  *sealing.Cache
	derived *token.Kept[derivation, struct{}]
	admits  Admission
}

// Admission decides whether an unsealed key may be used at all, by what officers have
// decided, and what time it is.
type Admission interface {
	// Admit returns a refusal, or nil. digest is that of the header (ceremony.HeaderDigest).
	Admit(h *hsm.Header, digest string) error
	Now() time.Time
}

// New returns the keys of a token. At most derived AES DUKPT derivation keys are kept in
// it.
func New(t *token.Token, sealed *sealing.Cache, derived int, admits Admission) *Keys {
	return &Keys{token: t, sealed: sealed, derived: token.NewKept[derivation, struct{}](t, derived), admits: admits}
}

// Token returns the token.
func (k *Keys) Token() *token.Token { return k.token }

// Unsealed returns the number of unsealed keys that are kept.
func (k *Keys) Unsealed() int { return k.sealed.Len() }

// Derived returns the number of derived keys that are kept.
func (k *Keys) Derived() int { return k.derived.Len() }

// Open unseals a key, which the caller releases. It fails with [fault.KeySealInvalid], with
// [fault.KeyDisabled] for a key that is stopped or not valid now, with [fault.EpochStale], or
// with the token's error.
func (k *Keys) Open(s *token.Session, key hsm.Key) (sealing.Key, error) {
	opened, err := k.sealed.Open(s, key.Name, key.Sealed)
	if err != nil {
		return opened, err
	}
	err = k.admits.Admit(opened.Header, opened.Digest)
	if err == nil && !opened.Header.ValidAt(k.admits.Now()) {
		err = fault.New(fault.KeyDisabled, "")
	}
	if err != nil {
		opened.Release()
		return sealing.Key{}, err
	}
	return opened, nil
}

// Do runs f with a session. When the token has lost the session or the objects in it, they
// are made anew, and f runs once more: it changes nothing before its last call of the token.
func (k *Keys) Do(f func(*token.Session) error) error {
	generation := k.token.Generation()
	err := k.token.Do(f)
	if Lost(err) {
		if err = k.token.Renew(generation); err == nil {
			err = k.token.Do(f)
		}
	}
	return err
}

// Lost reports whether an error says that sessions or objects have to be made anew.
func Lost(err error) bool {
	if err == nil {
		return false
	}
	switch token.ClassOf(err) {
	case token.HandleStale, token.SessionDead:
		return true
	}
	return false
}
