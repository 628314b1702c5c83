package module

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/injection"
	"keyd/hsm/module/internal/token"
	"keyd/keyagreement"
	"keyd/tr34"
	"keyd/trust"
)

// Keys of terminals: calls and answers. What is asked is in injectionshapes.go. Nothing of it is
// believed: package injection decides.

func (s *server) injectByAgreement(a *injection.Agreement) (*hsm.Injected, error) {
	return withSession(s, func(session *token.Session) (*hsm.Injected, error) {
		i, err := s.engines.injection.Agree(session, a)
		return i, injectionRefusal(err)
	})
}

func (s *server) injectByToken(t *injection.Token) (*hsm.Injected, error) {
	return withSession(s, func(session *token.Session) (*hsm.Injected, error) {
		i, err := s.engines.injection.Token(session, t)
		return i, injectionRefusal(err)
	})
}

func injected(i *hsm.Injected) proto.Message {
	return &wire.Injected{Answer: i.Answer, KeyBlocks: i.KeyBlocks, Master: i.Master, ReceiptKey: i.ReceiptKey, Record: i.Record}
}

func (s *server) confirmInjection(c *hsm.ConfirmInjection) ([]byte, error) {
	return withSession(s, func(session *token.Session) ([]byte, error) { return s.engines.injection.Confirm(session, c) })
}

func injectionConfirmed(statement []byte) proto.Message {
	return &wire.InjectionConfirmed{Statement: statement}
}

func (s *server) makeSessionKeys(m sessionKeys) ([]hsm.SessionKey, error) {
	return withSession(s, func(session *token.Session) ([]hsm.SessionKey, error) {
		return s.engines.injection.Session(session, m.master, m.specs)
	})
}

func sessionKeysMade(keys []hsm.SessionKey) proto.Message {
	m := new(wire.SessionKeysMade)
	for _, k := range keys {
		m.Keys = append(m.Keys, &wire.SessionKey{Sealed: k.Sealed, KeyBlock: k.KeyBlock, Cryptogram: k.Cryptogram, CheckValue: k.CheckValue})
	}
	return m
}

func (s *server) makeBindingToken(b *injection.Binding) ([]byte, error) {
	return withSession(s, func(session *token.Session) ([]byte, error) {
		made, err := s.engines.injection.Binding(session, b)
		return made, injectionRefusal(err)
	})
}

func bindingTokenMade(made []byte) proto.Message { return &wire.BindingTokenMade{Token: made} }

// injectionRefusal turns what is wrong with a device's message or a certificate into a refusal.
func injectionRefusal(err error) error {
	for _, r := range injectionReasons {
		if errors.Is(err, r.err) {
			return fault.New(r.reason, r.err.Error())
		}
	}
	return trust.Refusal(err)
}

var injectionReasons = []struct {
	err    error
	reason fault.Reason
}{
	{keyagreement.ErrTooLarge, fault.RequestInvalid}, {keyagreement.ErrEncoding, fault.RequestInvalid}, {keyagreement.ErrVersion, fault.RequestInvalid},
	{keyagreement.ErrCurve, fault.RequestInvalid}, {keyagreement.ErrPoint, fault.RequestInvalid}, {keyagreement.ErrCertificate, fault.CertificateInvalid},
	{keyagreement.ErrWeaker, fault.CertificateInvalid}, {keyagreement.ErrSignature, fault.SignatureInvalid},
	{tr34.ErrKey, fault.CertificateInvalid}, {tr34.ErrCRL, fault.RequestInvalid}, {tr34.ErrFreshness, fault.RequestInvalid}, {tr34.ErrRandomSize, fault.RequestInvalid},
	{tr34.ErrTooLarge, fault.RequestInvalid}, {tr34.ErrWeakerWrapping, fault.ExportForbidden},
}
