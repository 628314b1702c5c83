package token

/*
#include "direct.h"
*/
import "C"

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"unsafe"
)

// ECDH agrees on a secret with a peer's public key, which must be on the pair's curve
// (CKM_ECDH1_DERIVE, CKD_NULL). out is locked memory of exactly a field element: 32 bytes
// for P-256, 48 for P-384, 66 for P-521. The secret is the x-coordinate, with the zeros at
// its left that some tokens strip (SEC 1 §3.3.1). The object that the token derives it to
// is gone afterwards; after an error out is zero.
func (s *Session) ECDH(p Pair, peer *ecdh.PublicKey, out []byte) error {
	own, err := p.agreement()
	if err != nil {
		return err
	}
	if peer == nil || peer.Curve() != own.Curve() {
		return errors.New("ECDH: the peer's key is not on the pair's curve")
	}
	point := peer.Bytes() // uncompressed: 0x04, x, y
	size := (len(point) - 1) / 2
	if len(out) != size {
		return fmt.Errorf("ECDH: room for %d bytes where the secret has %d", len(out), size)
	}
	if err := s.ecdh(p.Private, point, out); err != nil {
		clear(out)
		return err
	}
	return nil
}

func (s *Session) ecdh(private Object, point, out []byte) error {
	s.token.tallies.derive.add(0)
	var object C.keyd_ulong
	rv := C.keyd_ecdh(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(private),
		unsafe.Pointer(&point[0]), C.keyd_ulong(len(point)), C.keyd_ulong(len(out)), &object)
	if err := call("C_DeriveKey", uint(rv)); err != nil {
		return err
	}
	n, err := s.value(Object(object), out)
	if gone := s.Destroy(Object(object)); err == nil {
		err = gone // a secret that stays readable in the token is a failure
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("ECDH: the token derived nothing")
	}
	pad := len(out) - n
	copy(out[pad:], out[:n])
	clear(out[:pad])
	return nil
}

// agreement is the public key of a pair that may agree.
func (p Pair) agreement() (*ecdh.PublicKey, error) {
	public, ok := p.Public.(*ecdsa.PublicKey)
	if !ok || p.Use != PairAgrees {
		return nil, errors.New("the key pair is not for key agreement")
	}
	return public.ECDH()
}

// KeyExchanger is a private key in the token that crypto/ecdh and crypto/hpke
// (NewDHKEMPrivateKey) take for one of theirs. It works as long as the caller has the
// session, and like that for one goroutine.
//
// It remembers the last secret, in the caller's memory, and answers the same peer again
// without the token. So what HPKE makes of the secret can be erased, though no token call
// may be made in erase.Do: call ECDH with the sender's key, the first bytes of the message,
// then Open within erase.Do. Without that HPKE leaves copies in the Go heap.
type KeyExchanger struct {
	session *Session
	pair    Pair
	public  *ecdh.PublicKey
	memory  []byte
	last    *ecdh.PublicKey // whose secret memory holds; nil: nobody's
}

var _ ecdh.KeyExchanger = (*KeyExchanger)(nil)

// KeyExchanger returns the pair as a key exchanger. memory is locked, of exactly a field
// element as for [Session.ECDH], and belongs to the exchanger until the caller, who wipes
// it ([KeyExchanger.Wipe]), is done.
func (s *Session) KeyExchanger(p Pair, memory []byte) (*KeyExchanger, error) {
	public, err := p.agreement()
	if err != nil {
		return nil, err
	}
	if size := (len(public.Bytes()) - 1) / 2; len(memory) != size {
		return nil, fmt.Errorf("key exchange: room for %d bytes where the secret has %d", len(memory), size)
	}
	return &KeyExchanger{session: s, pair: p, public: public, memory: memory}, nil
}

// PublicKey returns the pair's public key.
func (x *KeyExchanger) PublicKey() *ecdh.PublicKey { return x.public }

// Curve returns the pair's curve.
func (x *KeyExchanger) Curve() ecdh.Curve { return x.public.Curve() }

// ECDH is [Session.ECDH]. The answer is the exchanger's memory: the next peer's secret
// overwrites it.
func (x *KeyExchanger) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	if peer == nil {
		return nil, errors.New("ECDH: no peer")
	}
	if x.last != nil && x.last.Equal(peer) {
		return x.memory, nil
	}
	x.last = nil
	if err := x.session.ECDH(x.pair, peer, x.memory); err != nil {
		return nil, err
	}
	x.last = peer
	return x.memory, nil
}

// Wipe zeroes the memory and forgets whose secret it held.
func (x *KeyExchanger) Wipe() {
	clear(x.memory)
	x.last = nil
}
