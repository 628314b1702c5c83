package pinrecords

import (
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// What a live code is (package voids/code): version, kind, first bytes of the key's digest,
// identifier, end, audience.
const (
	codeSigned  = "keyd void code 1\x00"
	codeVersion = 1
	codeLive    = 1
	codeKeyID   = 4
	codeLongest = 15 * time.Minute
)

// SignCode signs a live code. It is signed field by field: no other thing that the key signs begins
// with the same bytes.
func (e *Engine) SignCode(r hsm.SignCode) (signature []byte, err error) {
	if r.Identifier == ([16]byte{}) {
		return nil, fault.New(fault.RequestInvalid, "")
	}
	err = e.do(func(s *token.Session) error {
		now := e.register.Now()
		if r.ExpiresAt <= now.Unix() || r.ExpiresAt > now.Add(codeLongest).Unix() || r.ExpiresAt > 1<<32-1 {
			return fault.New(fault.RequestInvalid, "a code ends after now, and in no more than 15 minutes")
		}
		pair, err := e.signing(s, r.Key, elliptic.P256())
		if err != nil {
			return err
		}
		_, _, der, err := sealing.PublicValues(pair.Public)
		if err != nil {
			return err
		}
		key := sha256.Sum256(der)
		message := append([]byte(codeSigned), codeVersion, codeLive)
		message = append(append(message, key[:codeKeyID]...), r.Identifier[:]...)
		message = binary.BigEndian.AppendUint32(message, uint32(r.ExpiresAt))
		digest := sha256.Sum256(append(message, r.Audience[:]...))
		signature, err = s.Signer(pair).Sign(nil, digest[:], crypto.SHA256)
		return err
	})
	if err != nil {
		return nil, err
	}
	return signature, nil
}
