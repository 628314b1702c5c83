package module

import (
	"crypto/x509"
	"errors"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/injection"
	"keyd/hsm/module/internal/token"
	"keyd/keyagreement"
	"keyd/trust"
)

func injectByAgreement(m *wire.InjectByAgreement) (a *injection.Agreement, err error) {
	if len(m.Injection.GetHostCertificates()) == 0 || len(m.Injection.GetHostCertificates()) > keyagreement.MaxCertificates || len(m.Injection.GetKeys()) == 0 || len(m.Injection.GetKeys()) > injection.MaxKeys {
		return nil, malformed
	}
	a = &injection.Agreement{Request: m.Request}
	if a.Host, err = key(m.Injection.GetHost()); err != nil {
		return nil, err
	}
	for _, der := range m.Injection.GetHostCertificates() {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, malformed
		}
		a.Certificates = append(a.Certificates, c)
	}
	for _, k := range m.Injection.GetKeys() {
		bdk, err := key(k.GetBdk())
		if err != nil {
			return nil, err
		}
		a.Keys = append(a.Keys, injection.InitialKey{BDK: bdk, ID: k.GetId()})
	}
	return a, nil
}

func (s *server) injectByAgreement(a *injection.Agreement) (*injection.Injected, error) {
	return withSession(s, func(session *token.Session) (*injection.Injected, error) {
		i, err := s.engines.injection.Agree(session, a)
		return i, injectionRefusal(err)
	})
}

func injectedByAgreement(i *injection.Injected) proto.Message {
	return &wire.Injected{Answer: i.Answer}
}

// injectionRefusal turns what is wrong with a device's message or certificate into a refusal.
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
}
