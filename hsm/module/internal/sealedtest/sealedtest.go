// Package sealedtest gives tests of operations a fresh token with master keys, and keys that
// are sealed for it.
package sealedtest

import (
	"encoding/hex"
	"testing"
	"time"

	"keyd/dukpt"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/working"
)

// Bench is a fresh token, mostly of SoftHSM, and the keys of it.
type Bench struct {
	testing.TB
	Token   *token.Token
	Keys    *working.Keys
	Now     time.Time // by which keys are valid
	masters *sealing.Masters
}

// New returns a bench. The test's TestMain runs tokentest.Run.
func New(t testing.TB) *Bench {
	t.Helper()
	return On(t, tokentest.SoftHSM(t).Open(t, 4))
}

// On returns a bench of another fresh token.
func On(t testing.TB, tok *token.Token) *Bench {
	t.Helper()
	b := &Bench{TB: t, Token: tok, Now: time.Unix(1_800_000_000, 0)}
	err := b.Token.Do(func(s *token.Session) (err error) {
		if err = sealing.CreateMasters(s, 1); err == nil {
			b.masters, err = sealing.FindMasters(s, 1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Keys = b.KeysKeeping(64)
	return b
}

// KeysKeeping returns the token's keys, of which that many derived ones are kept.
func (b *Bench) KeysKeeping(derived int) *working.Keys {
	return working.New(b.Token, sealing.NewCache(b.Token, sealing.NewSet(b.masters), 64), derived, Unregistered(func() time.Time { return b.Now }))
}

// Unregistered admits every key. It is the clock.
type Unregistered func() time.Time

// Admit implements working.Admission.
func (Unregistered) Admit(*hsm.Header, string) error { return nil }

// Now implements working.Admission.
func (u Unregistered) Now() time.Time { return u() }

// Key seals a key of that value in hex, which may do everything that its usage and mode
// allow; a V1 key has a rule of 16 digits. change narrows it.
func (b *Bench) Key(usage, algorithm, mode, value string, change ...func(*hsm.Header)) hsm.Key {
	b.Helper()
	h := header(usage, algorithm, mode, value)
	for _, c := range change {
		c(&h)
	}
	raw, err := hex.DecodeString(value)
	if err != nil {
		b.Fatal(err)
	}
	var sealed []byte
	if err := b.Token.Do(func(s *token.Session) (err error) { sealed, err = b.masters.Seal(s, h, raw); return err }); err != nil {
		b.Fatal(err)
	}
	return hsm.Key{Name: h.Name, Sealed: sealed}
}

// header is that of a key which may do everything that its usage and mode allow.
func header(usage, algorithm, mode, value string) hsm.Header {
	h := hsm.Header{Name: usage + algorithm + mode + value, Version: 1, Usage: usage, Algorithm: algorithm, Mode: mode,
		Exportability: "N", Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth, Peers: []string{"*"}, Formats: []hsm.Format{hsm.Format0, hsm.Format1, hsm.Format3, hsm.Format4},
		DataModes: []string{"CBC", "CTR"}}
	h.AllowChange = usage == "V1" || usage == "V2"
	if usage == "B0" {
		h.InjectionHosts = []string{"*"}
	}
	if usage == "V1" {
		h.IBM3624 = &hsm.IBM3624Rule{DecimalizationTable: "0123456789012345", Start: 0, Length: 16, Pad: "F"}
	}
	return h
}

// Held seals the header of a key that the token holds under a label, as officers attach it. length is in bytes.
func (b *Bench) Held(usage, algorithm, mode, label string, length uint16) hsm.Key {
	b.Helper()
	h := header(usage, algorithm, mode, label)
	h.Object, h.Length = label, length
	var sealed []byte
	if err := b.Token.Do(func(s *token.Session) (err error) {
		if h.CheckValue, h.Fingerprint, err = b.masters.Attach(s, &h, label); err == nil {
			sealed, err = b.masters.SealHeld(s, h)
		}
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return hsm.Key{Name: h.Name, Sealed: sealed}
}

// KSN parses a key serial number in hex.
func (b *Bench) KSN(text string) dukpt.KSN {
	b.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		b.Fatal(err)
	}
	k, err := dukpt.ParseKSN(raw)
	if err != nil {
		b.Fatal(err)
	}
	return k
}

// Renew has the token lose every object that was unwrapped or derived.
func (b *Bench) Renew() {
	b.Helper()
	if err := b.Token.Renew(b.Token.Generation()); err != nil {
		b.Fatal(err)
	}
}
