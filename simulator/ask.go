package simulator

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyagreement"
	"keyd/tr34"
)

// ErrAskedAgain is returned for an answer to a request after which the device has begun another.
var ErrAskedAgain = errors.New("the terminal has asked anew since: this answer does not count any more")

// Request is a device's request for keys. The ephemeral key of a key agreement is in it and
// nowhere else: a device that is stopped makes another request. Those of TR-34 are in the file, and
// can be sent again by the device after it was stopped.
type Request struct {
	device  *Device
	method  keydv1.InjectionMethod
	message *keydv1.InjectKeysRequest
	digest  [sha256.Size]byte

	run   *keyagreement.Terminal
	curve keyagreement.Curve
}

// Message is what is sent to keyd.
func (r *Request) Message() *keydv1.InjectKeysRequest { return r.message }

// AskOptions are what a device may choose when it asks for keys.
type AskOptions struct {
	Curve keyagreement.Curve // of key agreement; 0: the strongest that the device's key may sign for
	Own   [][]byte           // initial key IDs of its own, in the order of the key set's
	Fresh bool               // begin another request, even if one waits for its answer
	Anew  bool               // not the answer that keyd has given to this request before
}

// Ask makes a request for keys, which is in the file when Ask returns. By TR-34 it is the one that
// waits for its answer, if there is one of that kind.
func (d *Device) Ask(method keydv1.InjectionMethod, o AskOptions) (r *Request, err error) {
	err = d.update(func(s *deviceState) error {
		what := whatFor(method)
		if what == "" {
			return errors.New("keys come by key agreement, and by TR-34 in one pass or two")
		}
		if len(s.Certificates) == 0 {
			return errNoCertificate
		}
		r = &Request{device: d, method: method, message: &keydv1.InjectKeysRequest{TerminalId: s.Terminal, InitialKeyIds: o.Own, Anew: o.Anew}}
		a := &asked{What: what, Own: o.Own}
		if method == keydv1.InjectionMethod_KEY_AGREEMENT {
			if err := r.agree(s, o.Curve); err != nil {
				return err
			}
		} else {
			if _, err := s.tr34Device(); err != nil {
				return err
			}
			if s.Host == nil {
				return errors.New("the terminal is bound to no key host: keyd terminal simulate bind")
			}
			if old := s.Asked; old != nil && old.What == what && !o.Fresh && equalAll(old.Own, o.Own) {
				a = old
			} else if what == askedTwoPass {
				if a.Random, err = newRandom(); err != nil {
					return err
				}
			}
			if err := r.token(a); err != nil {
				return err
			}
		}
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.message)
		if err != nil {
			return err
		}
		r.digest = sha256.Sum256(encoded)
		a.Digest = r.digest[:]
		s.Asked = a
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func equalAll(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func newRandom() ([]byte, error) {
	random := make([]byte, tr34.MaxRandom)
	_, err := rand.Read(random)
	return random, err
}

func (r *Request) token(a *asked) error {
	if a.Random == nil {
		r.message.Request = &keydv1.InjectKeysRequest_Tr34OnePass{Tr34OnePass: true}
		return nil
	}
	token, err := tr34.RandomToken(a.Random)
	r.message.Request = &keydv1.InjectKeysRequest_Tr34RandomToken{Tr34RandomToken: token}
	return err
}

func (r *Request) agree(s *deviceState, curve keyagreement.Curve) error {
	key, err := s.privateKey()
	if err != nil {
		return err
	}
	if r.curve = curve; curve == 0 {
		if r.curve, err = strongest(key.Public()); err != nil {
			return err
		}
	}
	chain, err := parseAll(s.Certificates)
	if err != nil {
		return err
	}
	sign := func(digest []byte, hash crypto.Hash) ([]byte, error) { return key.Sign(rand.Reader, digest, hash) }
	if r.run, err = keyagreement.NewTerminal(rand.Reader, r.curve, chain, sign); err != nil {
		return err
	}
	r.message.Request = &keydv1.InjectKeysRequest_KeyAgreement{KeyAgreement: r.run.Request()}
	return nil
}

// strongest returns the strongest curve that a signing key is as strong as.
func strongest(key crypto.PublicKey) (keyagreement.Curve, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		for _, c := range []keyagreement.Curve{keyagreement.P256, keyagreement.P384, keyagreement.P521} {
			if c.String() == k.Curve.Params().Name {
				return c, nil
			}
		}
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits >= 7680:
			return keyagreement.P384, nil
		case bits >= 3072:
			return keyagreement.P256, nil
		}
	}
	return 0, fmt.Errorf("a key pair of %s signs for no curve of key agreement: take RSA from 3072 bits, a curve, or TR-34", algorithmOf(key))
}

// waits finds the request that the device waits for the answer to.
func (r *Request) waits(s *deviceState) error {
	if s.Asked == nil || !bytes.Equal(s.Asked.Digest, r.digest[:]) {
		return ErrAskedAgain
	}
	return nil
}
