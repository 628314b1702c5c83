// Package sealing keeps keys outside the token and yet in its custody: a sealed key
// is a header and a key value, wrapped by one master key of the token and
// authenticated together by another (the layout is described in package hsm).
//
// Rules. The MAC is checked before anything else is read. A key is unsealed to a
// sensitive, non-extractable session object with no more rights than its header
// gives it. Only hsm/module uses this package.
package sealing

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/token"
)

// Masters are the master keys of one generation, all AES-256, private, sensitive,
// not extractable and not modifiable, each with one mechanism and no other right.
type Masters struct {
	Generation   uint32
	wrapToken    token.Object // wraps keys that no process ever reads
	wrapModule   token.Object // wraps keys that the module may read, because officers may export them
	mac          token.Object // authenticates sealed keys and epochs
	fingerprints token.Object // fingerprints key values; the same for every generation
}

// FirstGeneration is the generation of a token's first master keys.
const FirstGeneration = 1

// SecretSize is the size of what master keys are made of, in bytes.
const SecretSize = 32

// ErrNoMasters is returned for a token on which no master keys were made.
var ErrNoMasters = errors.New("the token has no keyd master keys")

type masterSpec struct {
	role      string
	rights    token.Rights
	mechanism uint
	unwrap    []token.TemplateBool
	lasting   bool // it has no generation
	handle    func(*Masters) *token.Object
}

var masterSpecs = []masterSpec{
	{
		role: "wrap token", rights: token.MayWrap | token.MayUnwrap, mechanism: token.CKMAESKeyWrapPad,
		unwrap: []token.TemplateBool{{Type: pkcs11.CKA_SENSITIVE, Value: true}, {Type: pkcs11.CKA_EXTRACTABLE, Value: false}},
		handle: func(m *Masters) *token.Object { return &m.wrapToken },
	},
	{
		role: "wrap module", rights: token.MayWrap | token.MayUnwrap, mechanism: token.CKMAESKeyWrapPad,
		handle: func(m *Masters) *token.Object { return &m.wrapModule },
	},
	{
		role: "mac", rights: token.MaySign, mechanism: pkcs11.CKM_AES_CMAC,
		handle: func(m *Masters) *token.Object { return &m.mac },
	},
	{
		role: "fingerprint", rights: token.MaySign, mechanism: pkcs11.CKM_AES_CMAC, lasting: true,
		handle: func(m *Masters) *token.Object { return &m.fingerprints },
	},
}

func (s masterSpec) label(generation uint32) string {
	if s.lasting {
		return "keyd master " + s.role
	}
	return fmt.Sprintf("keyd master %d %s", generation, s.role)
}

func (s masterSpec) find(session *token.Session, generation uint32) (token.Object, error) {
	return findLabel(session, s.label(generation))
}

func findLabel(session *token.Session, label string) (token.Object, error) {
	return session.Find(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
}

// CreateMasters makes the master keys of a generation of a random secret, which nobody
// ever has: for development tokens.
func CreateMasters(session *token.Session, generation uint32) error {
	region, err := locked.New(SecretSize)
	if err != nil {
		return err
	}
	defer region.Free()
	secret := region.Bytes()[:SecretSize]
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	return ImportMasters(session, generation, secret)
}

// ImportMasters makes the master keys of a generation of a secret of [SecretSize] bytes, so
// that another token can be given the same ones: each is HKDF-SHA-512 (RFC 5869) of the
// secret for its own label. secret is locked memory of the caller's. Where a power failure
// left some of them, it makes the rest; where all are there it does nothing.
func ImportMasters(session *token.Session, generation uint32, secret []byte) error {
	region, err := locked.New(SecretSize)
	if err != nil {
		return err
	}
	defer region.Free()
	value := region.Bytes()[:SecretSize]
	for _, spec := range masterSpecs {
		label := spec.label(generation)
		_, err := spec.find(session, generation)
		if errors.Is(err, token.ErrNoObject) {
			erase.Do(func() {
				var derived []byte
				derived, err = hkdf.Key(sha512.New, secret, nil, label, len(value))
				copy(value, derived)
				clear(derived)
			})
			if err == nil {
				_, err = session.ImportMaster(label, spec.rights, spec.mechanism, spec.unwrap, value)
			}
		}
		if err != nil {
			return fmt.Errorf("master key %q: %w", label, err)
		}
	}
	return nil
}

// DestroyMasters destroys the master keys of a generation as far as they are there, and with
// everything the key that has no generation, too.
func DestroyMasters(session *token.Session, generation uint32, everything bool) error {
	for _, spec := range masterSpecs {
		if spec.lasting && !everything {
			continue
		}
		if err := session.DestroyMaster(spec.label(generation)); err != nil && !errors.Is(err, token.ErrNoObject) {
			return fmt.Errorf("master key %q: %w", spec.label(generation), err)
		}
	}
	return nil
}

// FindMasters returns the master keys of a generation after reading back their
// attributes. The error wraps [ErrNoMasters] if one is missing.
func FindMasters(session *token.Session, generation uint32) (*Masters, error) {
	m := &Masters{Generation: generation}
	for _, spec := range masterSpecs {
		object, err := spec.find(session, generation)
		if errors.Is(err, token.ErrNoObject) && spec.lasting {
			object, err = findLabel(session, substitute)
		}
		if errors.Is(err, token.ErrNoObject) {
			return nil, fmt.Errorf("%w: %q is missing", ErrNoMasters, spec.label(generation))
		}
		if err == nil {
			err = session.CheckImportedMaster(object, spec.rights, spec.mechanism)
		}
		if err != nil {
			return nil, fmt.Errorf("master key %q: %w", spec.label(generation), err)
		}
		*spec.handle(m) = object
	}
	return m, nil
}

// wrapping returns the key that wraps those of a custody.
func (m *Masters) wrapping(custody string) token.Object {
	if custody == hsm.CustodyModule {
		return m.wrapModule
	}
	return m.wrapToken
}

// Authenticate writes the MAC of a document that this token keeps outside to out, 16 bytes.
// purpose tells kinds of documents apart; a sealed key is none of them.
func (m *Masters) Authenticate(session *token.Session, out []byte, purpose string, document []byte) error {
	return code(session, m.mac, out, coded(purpose, document))
}

// coded is what the code of a document is of.
func coded(purpose string, document []byte) []byte {
	digest := sha512.Sum512(document)
	return append([]byte("keyd "+purpose+"\x00"), digest[:]...)
}

// CheckValue returns what tells these master keys from others, six upper-case hex digits:
// officers compare it when another token is given the same ones.
func (m *Masters) CheckValue(session *token.Session) (string, error) {
	var mac [hsm.MACSize]byte
	if err := m.Authenticate(session, mac[:], "master check value", nil); err != nil {
		return "", err
	}
	return strings.ToUpper(hex.EncodeToString(mac[:3])), nil
}

// code writes a CMAC to out, 16 bytes.
func code(session *token.Session, key token.Object, out, message []byte) error {
	n, err := session.Sign(pkcs11.CKM_AES_CMAC, key, out[:hsm.MACSize], message)
	if err == nil && n != hsm.MACSize {
		err = errors.New("the token made a MAC of an unexpected length")
	}
	return err
}
