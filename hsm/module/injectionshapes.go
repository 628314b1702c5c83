package module

import (
	"crypto/x509"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/injection"
	"keyd/hsm/module/internal/ledger"
	"keyd/receipt"
	"keyd/tr34"
	"keyd/trust"
)

// Bounds of what a front sends about terminals, in bytes.
const (
	maxChain   = 16 << 10 // certificates, together
	maxMessage = 32 << 10 // a terminal's request
	maxList    = 16 << 10 // a revocation list of the hosts' authority
	maxNonce   = 64       // a device's random number in its encoding
)

func injectByAgreement(m *wire.InjectByAgreement) (*injection.Agreement, error) {
	r, err := injectionRequest(m.Injection)
	if err != nil {
		return nil, err
	}
	if len(m.Request) == 0 || len(m.Request) > maxMessage {
		return nil, malformed
	}
	return &injection.Agreement{Request: r, Message: m.Request}, nil
}

func injectByToken(m *wire.InjectByToken) (*injection.Token, error) {
	r, err := injectionRequest(m.Injection)
	if err != nil {
		return nil, err
	}
	t := &injection.Token{Request: r}
	if t.Device, err = chain(m.DeviceCertificates); err != nil {
		return nil, err
	}
	if t.List, err = hostList(m.HostRevocationList); err != nil {
		return nil, err
	}
	if t.Profile, err = profile(m.Profile); err != nil {
		return nil, err
	}
	if len(m.RandomToken) > 0 {
		if t.Random, err = nonce(m.RandomToken); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// injectionRequest checks what injections by every method have in common.
func injectionRequest(m *wire.Injection) (r injection.Request, err error) {
	if len(m.GetId()) != receipt.IDSize || len(m.GetDevice()) != len(ledger.Device{}) || !injection.ValidTerminal(m.GetTerminal()) ||
		len(m.GetKeys()) > injection.MaxKeys || m.GetMaster().GetLength() > 32 {
		return r, malformed
	}
	if r.Host, err = key(m.Host); err != nil {
		return r, err
	}
	if r.Certificates, err = chain(m.HostCertificates); err != nil {
		return r, err
	}
	r.ID, r.Terminal, r.Device = [receipt.IDSize]byte(m.Id), m.Terminal, ledger.Device(m.Device)
	r.Master = hsm.MasterSpec{Algorithm: m.Master.GetAlgorithm(), Length: int(m.Master.GetLength()), Bare: m.Master.GetBare()}
	for _, k := range m.Keys {
		bdk, err := key(k.GetBdk())
		if err != nil {
			return r, err
		}
		r.Keys = append(r.Keys, hsm.InitialKey{Name: k.GetName(), BDK: bdk, ID: k.GetId()})
	}
	return r, nil
}

// chain reads certificates.
func chain(ders [][]byte) (certificates []*x509.Certificate, err error) {
	if len(ders) == 0 || len(ders) > trust.MaxChain {
		return nil, malformed
	}
	size := 0
	for _, der := range ders {
		if size += len(der); size > maxChain {
			return nil, malformed
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, malformed
		}
		certificates = append(certificates, c)
	}
	return certificates, nil
}

// hostList returns a revocation list, nil where there is none.
func hostList(der []byte) ([]byte, error) {
	if len(der) == 0 {
		return nil, nil
	}
	if len(der) > maxList {
		return nil, malformed
	}
	return der, nil
}

func profile(name string) (tr34.Profile, error) {
	p, known := tr34.ProfileNamed(name)
	if !known {
		return p, malformed
	}
	return p, nil
}

// nonce returns the random number of RT_KRD.
func nonce(encoded []byte) ([]byte, error) {
	if len(encoded) > maxNonce {
		return nil, malformed
	}
	random, err := tr34.ReadRandomToken(encoded)
	if err != nil {
		return nil, malformed
	}
	return random, nil
}

func confirmInjection(m *wire.ConfirmInjection) (*hsm.ConfirmInjection, error) {
	k, err := key(m.ReceiptKey)
	if err != nil {
		return nil, err
	}
	if len(m.Record) > receipt.MaxRecord+receipt.CodeSize || len(m.CheckValues) == 0 || len(m.CheckValues) > receipt.MaxKeys || len(m.Mac) > 16 {
		return nil, malformed
	}
	for _, v := range m.CheckValues {
		if !receipt.ValidCheckValue(v) {
			return nil, malformed
		}
	}
	return &hsm.ConfirmInjection{Record: m.Record, ReceiptKey: k, CheckValues: m.CheckValues, MAC: m.Mac}, nil
}

type sessionKeys struct {
	master hsm.Key
	specs  []hsm.SessionKeySpec
}

func makeSessionKeys(m *wire.MakeSessionKeys) (r sessionKeys, err error) {
	if r.master, err = key(m.Master); err != nil {
		return r, err
	}
	if len(m.Keys) == 0 || len(m.Keys) > injection.MaxSessionKeys {
		return r, malformed
	}
	for _, k := range m.Keys {
		if k.GetLength() > 32 {
			return r, malformed
		}
		r.specs = append(r.specs, hsm.SessionKeySpec{
			Name: k.GetName(), Usage: k.GetUsage(), Algorithm: k.GetAlgorithm(), Length: int(k.GetLength()), Version: k.GetVersion(), NotAfter: k.GetNotAfter(),
		})
	}
	return r, nil
}

func makeBindingToken(m *wire.MakeBindingToken) (b *injection.Binding, err error) {
	b = new(injection.Binding)
	if len(m.Device) != len(b.Device) {
		return nil, malformed
	}
	b.Device = ledger.Device(m.Device)
	if b.Host, err = key(m.Host); err != nil {
		return nil, err
	}
	if b.Certificates, err = chain(m.HostCertificates); err != nil {
		return nil, err
	}
	if b.Chain, err = chain(m.DeviceCertificates); err != nil {
		return nil, err
	}
	if b.Profile, err = profile(m.Profile); err != nil {
		return nil, err
	}
	if len(m.NewHostCertificates) > 0 {
		if b.NewHost, err = chain(m.NewHostCertificates); err != nil {
			return nil, err
		}
	}
	if b.List, err = hostList(m.RevocationList); err != nil {
		return nil, err
	}
	if b.Random, err = nonce(m.RandomToken); err != nil {
		return nil, err
	}
	return b, nil
}
