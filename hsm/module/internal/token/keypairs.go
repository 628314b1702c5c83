package token

import (
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// PairUse is the one thing that a key pair is for.
type PairUse uint8

// The uses of key pairs.
const (
	PairSigns    PairUse = iota + 1 // EC: CKM_ECDSA; RSA: CKM_RSA_PKCS and CKM_RSA_PKCS_PSS
	PairAgrees                      // EC only: CKM_ECDH1_DERIVE
	PairDecrypts                    // RSA only: CKM_RSA_PKCS_OAEP
)

// Pair is a key pair that the token holds. Its private key is a private token object,
// sensitive, never extractable, not modifiable, made in this token, and of one use; where
// the token knows CKA_ALLOWED_MECHANISMS it has no mechanism but those of its use.
//
// Handles are good as long as the process has the library. A Pair that was not made by
// this package's functions is not usable.
type Pair struct {
	Label                 string
	Private, PublicObject Object
	Public                crypto.PublicKey // *ecdsa.PublicKey or *rsa.PublicKey
	Use                   PairUse
}

// pairKind is what a key pair's attributes follow from.
type pairKind struct {
	keyType uint // CKK_EC or CKK_RSA
	use     PairUse
}

// pairMechanisms is the table of what there is: a kind that is not in it is refused.
var pairMechanisms = map[pairKind][]uint{
	{pkcs11.CKK_EC, PairSigns}:     {pkcs11.CKM_ECDSA},
	{pkcs11.CKK_EC, PairAgrees}:    {pkcs11.CKM_ECDH1_DERIVE},
	{pkcs11.CKK_RSA, PairSigns}:    {pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_PKCS_PSS},
	{pkcs11.CKK_RSA, PairDecrypts}: {pkcs11.CKM_RSA_PKCS_OAEP},
}

// privateFlags names every right, so that no token's default adds one.
func (k pairKind) privateFlags() []TemplateBool {
	return []TemplateBool{
		{pkcs11.CKA_TOKEN, true},
		{pkcs11.CKA_PRIVATE, true},
		{pkcs11.CKA_SENSITIVE, true},
		{pkcs11.CKA_EXTRACTABLE, false},
		{pkcs11.CKA_MODIFIABLE, false},
		{pkcs11.CKA_SIGN, k.use == PairSigns},
		{pkcs11.CKA_SIGN_RECOVER, false},
		{pkcs11.CKA_DERIVE, k.use == PairAgrees},
		{pkcs11.CKA_DECRYPT, k.use == PairDecrypts},
		{pkcs11.CKA_UNWRAP, false},
	}
}

func (k pairKind) publicFlags() []TemplateBool {
	return []TemplateBool{
		{pkcs11.CKA_TOKEN, true},
		{pkcs11.CKA_PRIVATE, false},
		{pkcs11.CKA_MODIFIABLE, false},
		{pkcs11.CKA_VERIFY, k.use == PairSigns},
		{pkcs11.CKA_VERIFY_RECOVER, false},
		{pkcs11.CKA_DERIVE, false},
		{pkcs11.CKA_ENCRYPT, k.use == PairDecrypts},
		{pkcs11.CKA_WRAP, false},
	}
}

// GenerateEC makes an EC key pair inside the token, on P-256, P-384 or P-521, to sign
// ([PairSigns]) or to agree on secrets ([PairAgrees]). Both objects get the label and the
// same 16 random bytes as CKA_ID. Attributes are read back, and the public key is proved to
// be the private key's ([Session.FindPair]); a pair that is not as asked is destroyed.
//
// The error wraps [ErrExists] if a private key has the label already. Two processes could
// make the same label at once, after which FindPair refuses it.
func (s *Session) GenerateEC(label string, curve elliptic.Curve, use PairUse) (Pair, error) {
	parameters, err := curveParameters(curve)
	if err != nil {
		return Pair{}, err
	}
	return s.generatePair(label, pairKind{pkcs11.CKK_EC, use}, pkcs11.CKM_EC_KEY_PAIR_GEN,
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, parameters))
}

// GenerateRSA is [Session.GenerateEC] for RSA keys of 2048 to 4096 bits, a multiple of 64,
// with the public exponent 65537, to sign ([PairSigns]) or to decrypt ([PairDecrypts]).
// In software it may take seconds, in which a token that works for one call at a time
// answers nobody: it is for provisioning, not for a module that serves.
func (s *Session) GenerateRSA(label string, bits int, use PairUse) (Pair, error) {
	if bits < 2048 || bits > 4096 || bits%64 != 0 {
		return Pair{}, fmt.Errorf("an RSA key must have 2048 to 4096 bits, a multiple of 64, not %d", bits)
	}
	return s.generatePair(label, pairKind{pkcs11.CKK_RSA, use}, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN,
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
}

func (s *Session) generatePair(label string, kind pairKind, mechanism uint, parameters ...*pkcs11.Attribute) (Pair, error) {
	if err := checkLabel(label); err != nil {
		return Pair{}, err
	}
	if pairMechanisms[kind] == nil {
		return Pair{}, errors.New("a key of this type has no such use")
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	if err := s.absent(pkcs11.CKO_PRIVATE_KEY, label); err != nil {
		return Pair{}, err
	}
	id := newID()
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind.keyType),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	}
	public := append(append(flagAttributes(kind.publicFlags()), common...), parameters...)
	public = append(public, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY))
	private := append(flagAttributes(kind.privateFlags()), common...)
	private = append(private, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))

	private = append(private, s.token.allowed(pairMechanisms[kind]...)...)

	publicObject, privateObject, err := s.token.lib.ctx.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private)
	if err != nil {
		return Pair{}, named("C_GenerateKeyPair", err)
	}
	pair := Pair{Label: label, Private: Object(privateObject), PublicObject: Object(publicObject), Use: kind.use}
	if err := s.completePair(&pair, kind, id); err != nil {
		return Pair{}, errors.Join(err, s.Destroy(pair.Private), s.Destroy(pair.PublicObject))
	}
	return pair, nil
}

// DestroyPair removes the key pairs with a label, whatever [Session.FindPair] thinks of them;
// private keys first: what an interruption leaves is a public key, which nothing finds. The
// error is [ErrNoObject] if there is none.
func (s *Session) DestroyPair(label string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	some := false
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		objects, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
		if err != nil {
			return err
		}
		for _, object := range objects {
			some = true
			if err := s.Destroy(object); err != nil && ClassOf(err) != HandleStale {
				return err
			}
		}
	}
	if !some {
		return ErrNoObject
	}
	return nil
}
