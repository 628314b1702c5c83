package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

// ErrPair is returned for a key pair whose halves do not belong together.
var ErrPair = errors.New("the public key is not the private key's")

// FindPair returns the key pair whose private key has the label, after reading back all
// that [Pair] promises. The public key is proved to be the private key's, since public
// objects can be put on a token without its PIN: an EC key signs or agrees once, of an RSA
// key the modulus is compared. The error wraps [ErrNoObject] if there is no private key of
// this label, or no public key with its label and CKA_ID.
func (s *Session) FindPair(label string) (Pair, error) {
	if err := checkLabel(label); err != nil {
		return Pair{}, err
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	private, err := s.find(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	if err != nil {
		return Pair{}, fmt.Errorf("private key %q: %w", label, err)
	}
	kind, err := s.pairKind(private)
	if err != nil {
		return Pair{}, fmt.Errorf("private key %q: %w", label, err)
	}
	id, err := s.attribute(private, pkcs11.CKA_ID)
	if err != nil {
		return Pair{}, err
	}
	public, err := s.find(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return Pair{}, fmt.Errorf("public key %q: %w", label, err)
	}
	pair := Pair{Label: label, Private: private, PublicObject: public, Use: kind.use}
	if err := s.completePair(&pair, kind, id); err != nil {
		return Pair{}, fmt.Errorf("key pair %q: %w", label, err)
	}
	return pair, nil
}

// PairLabels returns the labels of the token's private keys that begin with prefix (0 to
// [MaxLabel] bytes), sorted, each once. Whether [Session.FindPair] takes them it does not
// say.
func (s *Session) PairLabels(prefix string) ([]string, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	objects, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))
	if err != nil {
		return nil, err
	}
	var labels []string
	for _, object := range objects {
		label, err := s.attribute(object, pkcs11.CKA_LABEL)
		if ClassOf(err) == HandleStale {
			continue // destroyed meanwhile by somebody else
		}
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(label), prefix) {
			labels = append(labels, string(label))
		}
	}
	slices.Sort(labels)
	return slices.Compact(labels), nil
}

// pairKind reads a private key's type and its one use.
func (s *Session) pairKind(private Object) (pairKind, error) {
	keyType, err := s.number(private, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return pairKind{}, err
	}
	kind := pairKind{keyType: keyType}
	for _, u := range []struct {
		right uint
		use   PairUse
	}{{pkcs11.CKA_SIGN, PairSigns}, {pkcs11.CKA_DERIVE, PairAgrees}, {pkcs11.CKA_DECRYPT, PairDecrypts}} {
		may, err := s.flag(private, u.right)
		if err != nil {
			return pairKind{}, err
		}
		if may && kind.use == 0 {
			kind.use = u.use // a second right is found when all are compared
		}
	}
	if pairMechanisms[kind] == nil {
		return pairKind{}, errors.New("it has no use that keyd gives a key of its type: keyd did not make it")
	}
	return kind, nil
}

// completePair reads the attributes of both halves back, and the public key, and has the
// token prove that it belongs to the private one.
func (s *Session) completePair(p *Pair, kind pairKind, id []byte) error {
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind.keyType),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, p.Label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	}
	common = append(common, s.token.local()...)
	private := append(flagAttributes(kind.privateFlags()), common...)
	private = append(private,
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_NEVER_EXTRACTABLE, true))
	private = append(private, s.token.allowed(pairMechanisms[kind]...)...)
	if err := s.checkAttributes("private key", p.Private, private); err != nil {
		return err
	}
	public := append(flagAttributes(kind.publicFlags()), common...)
	public = append(public, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY))
	if err := s.checkAttributes("public key", p.PublicObject, public); err != nil {
		return err
	}
	var err error
	if p.Public, err = s.publicKey(p.PublicObject, kind.keyType); err != nil {
		return err
	}
	return s.provePair(*p)
}

func (s *Session) provePair(p Pair) error {
	switch public := p.Public.(type) {
	case *rsa.PublicKey:
		modulus, err := s.attribute(p.Private, pkcs11.CKA_MODULUS)
		if err != nil {
			return err
		}
		if !bytes.Equal(bytes.TrimLeft(modulus, "\x00"), public.N.Bytes()) {
			return ErrPair
		}
		return nil
	case *ecdsa.PublicKey:
		if p.Use == PairSigns {
			digest := sha256.Sum256([]byte(rand.Text()))
			signature, err := s.signECDSA(p.Private, public, digest[:])
			if err == nil && !ecdsa.VerifyASN1(public, digest[:], signature) {
				err = ErrPair
			}
			return err
		}
		return s.proveAgreement(p, public)
	}
	return ErrPair
}

// proveAgreement agrees with a key made for it. What comes out protects nothing, and need
// not lie in locked memory.
func (s *Session) proveAgreement(p Pair, public *ecdsa.PublicKey) error {
	own, err := public.ECDH()
	if err != nil {
		return err
	}
	other, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := other.ECDH(own)
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	if err := s.ECDH(p, other.PublicKey(), got); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return ErrPair
	}
	return nil
}
