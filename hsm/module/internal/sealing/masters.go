// Package sealing keeps keys outside the token and yet in its custody: a sealed key
// is a header and a key value, wrapped by one master key of the token and
// authenticated together by another (the layout is described in package hsm).
//
// Rules. The MAC is checked before anything else is read. A key is unsealed to a
// sensitive, non-extractable session object with no more rights than its header
// gives it. Only hsm/module uses this package.
package sealing

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// Masters are the master keys of one generation, all AES-256, private, sensitive,
// not extractable and not modifiable, each with one mechanism and no other right.
type Masters struct {
	Generation uint32
	wrapToken  token.Object // wraps keys that no process ever reads
	wrapModule token.Object // wraps keys that the module reads
	mac        token.Object // authenticates sealed keys and fingerprints values
}

// FirstGeneration is the generation of a token's first master keys.
const FirstGeneration = 1

// ErrNoMasters is returned for a token on which no master keys were made.
var ErrNoMasters = errors.New("the token has no keyd master keys")

type masterSpec struct {
	role      string
	rights    token.Rights
	mechanism uint
	unwrap    []token.TemplateBool
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
}

func (s masterSpec) label(generation uint32) string {
	return fmt.Sprintf("keyd master %d %s", generation, s.role)
}

func (s masterSpec) find(session *token.Session, generation uint32) (token.Object, error) {
	return session.Find(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, s.label(generation)))
}

// CreateMasters makes the master keys of a generation inside the token. Where a
// power failure left some of them, it makes the rest; where all are there it does
// nothing.
func CreateMasters(session *token.Session, generation uint32) error {
	for _, spec := range masterSpecs {
		_, err := spec.find(session, generation)
		if errors.Is(err, token.ErrNoObject) {
			_, err = session.GenerateMaster(spec.label(generation), spec.rights, spec.mechanism, spec.unwrap)
		}
		if err != nil {
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
		if errors.Is(err, token.ErrNoObject) {
			return nil, fmt.Errorf("%w: %q is missing", ErrNoMasters, spec.label(generation))
		}
		if err == nil {
			err = session.CheckMaster(object, spec.rights, spec.mechanism)
		}
		if err != nil {
			return nil, fmt.Errorf("master key %q: %w", spec.label(generation), err)
		}
		*spec.handle(m) = object
	}
	return m, nil
}

// authenticate writes the MAC of a sealed key's body to out, 16 bytes.
func (m *Masters) authenticate(session *token.Session, out, body []byte) error {
	n, err := session.Sign(pkcs11.CKM_AES_CMAC, m.mac, out[:hsm.MACSize], body)
	if err == nil && n != hsm.MACSize {
		err = errors.New("the token made a MAC of an unexpected length")
	}
	return err
}
