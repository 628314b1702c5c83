package module

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/injection"
	"keyd/receipt"
	"keyd/tr34"
)

// injectionMessages are well-formed messages of the operations for terminals.
func injectionMessages(t testing.TB) map[wire.Op]proto.Message {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_900_000_000, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	random, err := tr34.RandomToken([]byte("12345678"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := &wire.SealedKey{Name: "k", Sealed: make([]byte, 40)}
	common := func() *wire.Injection {
		return &wire.Injection{
			Id: make([]byte, 16), Terminal: "t-1", Device: make([]byte, 32), Host: sealed, HostCertificates: [][]byte{der}, Master: &wire.MasterSpec{Algorithm: "A", Length: 16},
			Keys: []*wire.InitialKey{{Bdk: sealed, Id: make([]byte, 8), Name: "pin"}},
		}
	}
	return map[wire.Op]proto.Message{
		wire.OpInjectByAgreement: &wire.InjectByAgreement{Injection: common(), Request: []byte{0x30, 0}},
		wire.OpInjectByToken:     &wire.InjectByToken{Injection: common(), DeviceCertificates: [][]byte{der}, RandomToken: random, HostRevocationList: []byte{0x30, 0}, Profile: "annex-b"},
		wire.OpConfirmInjection:  &wire.ConfirmInjection{Record: make([]byte, 100), ReceiptKey: sealed, CheckValues: []string{"0A1B2C", "D00DAD"}, Mac: make([]byte, 16)},
		wire.OpMakeSessionKeys:   &wire.MakeSessionKeys{Master: sealed, Keys: []*wire.SessionKeySpec{{Name: "pin", Usage: "P0", Algorithm: "T", Length: 16, NotAfter: 1_800_000_000, Version: 1}}},
		wire.OpMakeBindingToken: &wire.MakeBindingToken{
			Host: sealed, HostCertificates: [][]byte{der}, DeviceCertificates: [][]byte{der}, Device: make([]byte, 32), RandomToken: random, NewHostCertificates: [][]byte{der}, RevocationList: []byte{0x30, 0},
		},
	}
}

// What a hostile front sends of terminals is refused where it is not of the sizes that the engine
// works with.
func TestShapesOfInjections(t *testing.T) {
	s := &server{}
	interpret := func(op wire.Op, m proto.Message) error {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.interpret(wire.Frame{Op: op, Payload: b})
		return err
	}
	for op, m := range injectionMessages(t) {
		if err := interpret(op, m); err != nil {
			t.Errorf("operation %d: %v", op, err)
		}
	}
	injectionOf := func(m proto.Message) *wire.Injection {
		if a, ok := m.(*wire.InjectByAgreement); ok {
			return a.Injection
		}
		return m.(*wire.InjectByToken).Injection
	}
	common := map[string]func(*wire.Injection){
		"an identifier of 15 bytes": func(i *wire.Injection) { i.Id = i.Id[1:] },
		"a device of 31 bytes":      func(i *wire.Injection) { i.Device = i.Device[1:] },
		"no terminal":               func(i *wire.Injection) { i.Terminal = "" },
		"a terminal that is none":   func(i *wire.Injection) { i.Terminal = "t:1" },
		"no host":                   func(i *wire.Injection) { i.Host = nil },
		"a huge sealed key": func(i *wire.Injection) {
			i.Host = &wire.SealedKey{Name: "k", Sealed: make([]byte, hsm.MaxSealedSize+1)}
		},
		"no certificate":               func(i *wire.Injection) { i.HostCertificates = nil },
		"six certificates":             func(i *wire.Injection) { i.HostCertificates = slices.Repeat(i.HostCertificates, 6) },
		"a certificate that is none":   func(i *wire.Injection) { i.HostCertificates[0] = []byte("x") },
		"certificates of 17 KiB":       func(i *wire.Injection) { i.HostCertificates = append(i.HostCertificates, make([]byte, 17<<10)) },
		"seven initial keys":           func(i *wire.Injection) { i.Keys = slices.Repeat(i.Keys, injection.MaxKeys+1) },
		"an initial key without a BDK": func(i *wire.Injection) { i.Keys[0].Bdk = nil },
		"a master key of 2^31 bytes":   func(i *wire.Injection) { i.Master.Length = 1 << 31 },
	}
	type change struct {
		op wire.Op
		do func(proto.Message)
	}
	changes := map[string]change{
		"nothing asked":                {wire.OpInjectByAgreement, func(m proto.Message) { m.(*wire.InjectByAgreement).Request = nil }},
		"a request of 33 KiB":          {wire.OpInjectByAgreement, func(m proto.Message) { m.(*wire.InjectByAgreement).Request = make([]byte, 33<<10) }},
		"no injection":                 {wire.OpInjectByAgreement, func(m proto.Message) { m.(*wire.InjectByAgreement).Injection = nil }},
		"no injection by token":        {wire.OpInjectByToken, func(m proto.Message) { m.(*wire.InjectByToken).Injection = nil }},
		"no device":                    {wire.OpInjectByToken, func(m proto.Message) { m.(*wire.InjectByToken).DeviceCertificates = nil }},
		"a list of 17 KiB":             {wire.OpInjectByToken, func(m proto.Message) { m.(*wire.InjectByToken).HostRevocationList = make([]byte, 17<<10) }},
		"an unknown profile":           {wire.OpInjectByToken, func(m proto.Message) { m.(*wire.InjectByToken).Profile = "x" }},
		"a long random number":         {wire.OpInjectByToken, func(m proto.Message) { m.(*wire.InjectByToken).RandomToken = make([]byte, 65) }},
		"a random number that is none": {wire.OpInjectByToken, func(m proto.Message) { m.(*wire.InjectByToken).RandomToken = []byte("12345678") }},
		"no receipt key":               {wire.OpConfirmInjection, func(m proto.Message) { m.(*wire.ConfirmInjection).ReceiptKey = nil }},
		"a huge record": {wire.OpConfirmInjection, func(m proto.Message) {
			m.(*wire.ConfirmInjection).Record = make([]byte, receipt.MaxRecord+receipt.CodeSize+1)
		}},
		"a MAC of 17 bytes":                 {wire.OpConfirmInjection, func(m proto.Message) { m.(*wire.ConfirmInjection).Mac = make([]byte, 17) }},
		"no check value":                    {wire.OpConfirmInjection, func(m proto.Message) { m.(*wire.ConfirmInjection).CheckValues = nil }},
		"nine check values":                 {wire.OpConfirmInjection, func(m proto.Message) { m.(*wire.ConfirmInjection).CheckValues = slices.Repeat([]string{"000000"}, 9) }},
		"a check value that is none":        {wire.OpConfirmInjection, func(m proto.Message) { m.(*wire.ConfirmInjection).CheckValues[1] = strings.Repeat("0", 1000) }},
		"no master key":                     {wire.OpMakeSessionKeys, func(m proto.Message) { m.(*wire.MakeSessionKeys).Master = nil }},
		"no session key":                    {wire.OpMakeSessionKeys, func(m proto.Message) { m.(*wire.MakeSessionKeys).Keys = nil }},
		"nine session keys":                 {wire.OpMakeSessionKeys, func(m proto.Message) { r := m.(*wire.MakeSessionKeys); r.Keys = slices.Repeat(r.Keys, 9) }},
		"a session key of 33 bytes":         {wire.OpMakeSessionKeys, func(m proto.Message) { m.(*wire.MakeSessionKeys).Keys[0].Length = 33 }},
		"a binding of no device":            {wire.OpMakeBindingToken, func(m proto.Message) { m.(*wire.MakeBindingToken).Device = nil }},
		"a binding without a random number": {wire.OpMakeBindingToken, func(m proto.Message) { m.(*wire.MakeBindingToken).RandomToken = nil }},
		"a binding of no certificate":       {wire.OpMakeBindingToken, func(m proto.Message) { m.(*wire.MakeBindingToken).DeviceCertificates = nil }},
		"a binding by no host":              {wire.OpMakeBindingToken, func(m proto.Message) { m.(*wire.MakeBindingToken).Host = nil }},
		"a host that is none":               {wire.OpMakeBindingToken, func(m proto.Message) { m.(*wire.MakeBindingToken).NewHostCertificates[0] = []byte("x") }},
		"a binding with a huge list":        {wire.OpMakeBindingToken, func(m proto.Message) { m.(*wire.MakeBindingToken).RevocationList = make([]byte, 17<<10) }},
	}
	for name, do := range common {
		for _, op := range []wire.Op{wire.OpInjectByAgreement, wire.OpInjectByToken} {
			changes[name+", operation "+string(rune('0'+op-wire.OpInjectByAgreement))] = change{op, func(m proto.Message) { do(injectionOf(m)) }}
		}
	}
	for name, c := range changes {
		m := injectionMessages(t)[c.op]
		c.do(m)
		if err := interpret(c.op, m); fault.Of(err).Reason != fault.RequestInvalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzInjectionShapes reads any bytes as an operation for terminals: it is refused, or is of the
// sizes that the engine works with. Nothing comes with an error.
func FuzzInjectionShapes(f *testing.F) {
	for op, m := range injectionMessages(f) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(op), b)
	}
	f.Fuzz(func(t *testing.T, op uint8, payload []byte) {
		frame := wire.Frame{Op: wire.Op(op), Payload: payload}
		common := func(r *injection.Request) {
			if len(r.Certificates) == 0 || len(r.Certificates) > 5 || len(r.Keys) > injection.MaxKeys || r.Master.Length > 32 || r.Master.Length < 0 || !injection.ValidTerminal(r.Terminal) {
				t.Errorf("%+v", r)
			}
		}
		switch frame.Op {
		case wire.OpInjectByAgreement:
			if m := new(wire.InjectByAgreement); frame.Decode(m) == nil {
				if a, err := injectByAgreement(m); err == nil {
					common(&a.Request)
				} else if a != nil {
					t.Error("something comes with an error")
				}
			}
		case wire.OpInjectByToken:
			if m := new(wire.InjectByToken); frame.Decode(m) == nil {
				if a, err := injectByToken(m); err == nil {
					common(&a.Request)
					if len(a.Device) == 0 || len(a.Device) > 5 || a.Random != nil && (len(a.Random) < tr34.MinRandom || len(a.Random) > tr34.MaxRandom) {
						t.Errorf("%+v", a)
					}
				} else if a != nil {
					t.Error("something comes with an error")
				}
			}
		case wire.OpConfirmInjection:
			if m := new(wire.ConfirmInjection); frame.Decode(m) == nil {
				if c, err := confirmInjection(m); err == nil {
					if _, err := receipt.Text([16]byte{}, c.CheckValues); err != nil || len(c.MAC) > 16 {
						t.Errorf("%+v", c)
					}
				} else if c != nil {
					t.Error("something comes with an error")
				}
			}
		case wire.OpMakeSessionKeys:
			if m := new(wire.MakeSessionKeys); frame.Decode(m) == nil {
				if r, err := makeSessionKeys(m); err == nil && (len(r.specs) == 0 || len(r.specs) > injection.MaxSessionKeys) {
					t.Errorf("%+v", r)
				}
			}
		case wire.OpMakeBindingToken:
			if m := new(wire.MakeBindingToken); frame.Decode(m) == nil {
				if b, err := makeBindingToken(m); err == nil {
					if len(b.Random) < tr34.MinRandom || len(b.Random) > tr34.MaxRandom || len(b.Chain) == 0 || len(b.Certificates) == 0 {
						t.Errorf("%+v", b)
					}
				} else if b != nil {
					t.Error("something comes with an error")
				}
			}
		}
	})
}
