package pinrecords

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/velocity"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// decided is a register with one authority for approvers, in which every key is admitted. That of
// the module is tried out in hsm/module.
type decided struct {
	sealedtest.Unregistered
	epoch ceremony.Epoch
}

func (d *decided) Current() (*ceremony.Epoch, error) { return &d.epoch, nil }

// bench is an engine on a fresh token with a ledger and a table of tries that are files, a record, and
// a terminal.
type bench struct {
	*sealedtest.Bench
	engine       *Engine
	datum, token hsm.Key
	subject      pinrecord.Subject
	record       []byte
	decided      *decided
	root         *person // the approvers' authority
	deliver      *ecdh.PrivateKey
}

const benchPIN = "739104"

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{Bench: sealedtest.New(t), subject: pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Name: "dora"}}
	d := &decided{Unregistered: func() time.Time { return b.Now }, epoch: ceremony.Epoch{Generation: 1, Oldest: 1}}
	given, err := ledger.Create(filepath.Join(t.TempDir(), "ledger"))
	b.must(err)
	t.Cleanup(func() { _ = given.Close() })
	counts, err := velocity.Create(filepath.Join(t.TempDir(), "velocity"), 1<<10)
	b.must(err)
	t.Cleanup(func() { _ = counts.Close() })
	clock, err := velocity.SystemClock()
	b.must(err)
	most := velocity.Limit{Minute: velocity.MaxLimit}
	table, err := velocity.Open(int(counts.Fd()), [32]byte{1}, [16]byte{1}, velocity.Limits{Verification: most, Translation: most, Card: most}, clock)
	b.must(err)
	t.Cleanup(func() { _ = table.Close() })
	set := sealing.NewSet()
	b.engine = New(b.Keys, set, d, ledger.Open(int(given.Fd())), tries.New(table))
	b.datum = b.Key("V0", "A", "C", "00112233445566778899AABBCCDDEEFF")
	b.must(b.Token.Do(func(s *token.Session) error {
		pair, err := s.GenerateEC(sealing.PairPrefix+"token", elliptic.P256(), token.PairSigns)
		if err != nil {
			return err
		}
		h := hsm.Header{Name: "token", Version: 1, Usage: "S0", Algorithm: "E", Length: 32, Mode: "S", Exportability: "N", Object: pair.Label}
		if h.CheckValue, h.Fingerprint, h.Public, err = sealing.PublicValues(pair.Public); err != nil {
			return err
		}
		masters, err := set.Of(s, 1)
		if err != nil {
			return err
		}
		b.token.Name = h.Name
		b.token.Sealed, err = masters.SealHeld(s, h)
		return err
	}))
	b.decided = d
	b.enrol()
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// enrol has the subject get its PIN as approvers want it.
func (b *bench) enrol() {
	b.Helper()
	b.root = b.certify(nil, nil, "")
	b.decided.epoch.Trust(ceremony.Authority{Certificate: b.root.cert.Raw, Uses: []string{ceremony.UseApprovers}})
	var err error
	b.deliver, err = ecdh.P256().GenerateKey(rand.Reader)
	b.must(err)
	pending, code := b.begun(pinrecord.Enrol, 1)
	answer, err := b.engine.Set(hsm.SetPIN{Pending: pending, DatumKey: b.datum, Code: b.typed("A", 1, code).RecordBlock, PIN: b.typed("A", 2, benchPIN).RecordBlock})
	if err != nil || !answer.Verified {
		b.Fatalf("%v, %v", answer.Verified, err)
	}
	b.record = answer.Record
}

// begun is a pending record of a version, and its code.
func (b *bench) begun(action pinrecord.Action, version uint32) (pending []byte, code string) {
	b.Helper()
	der, err := x509.MarshalPKIXPublicKey(b.deliver.PublicKey())
	b.must(err)
	a := pinrecord.Approval{Action: action, Subject: b.subject, Version: version, Request: "00112233445566778899aabbccddeeff", DeliverTo: der, NotAfter: b.Now.Add(time.Hour).Unix()}
	encoded, err := a.Encode()
	b.must(err)
	var two []hsm.Approval
	for _, name := range []string{"anna", "bert"} {
		by := b.certify(b.root, &url.URL{Scheme: "spiffe", Host: "bank.example", Path: "/approvers/" + name}, name)
		signed, err := pinrecord.Sign(by.key, [][]byte{by.cert.Raw}, encoded)
		b.must(err)
		two = append(two, hsm.Approval(signed))
	}
	begun, err := b.engine.Begin(hsm.BeginPIN{Approvals: two, DatumKey: b.datum})
	b.must(err)
	digits, err := pinrecord.OpenCode(b.deliver, encoded, begun.Code)
	b.must(err)
	return begun.Pending, string(digits)
}

type person struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (b *bench) certify(by *person, id *url.URL, name string) *person {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b.must(err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: b.Now.Add(-time.Hour), NotAfter: b.Now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	p := &person{key: key}
	issuer, signer := c, key
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		c.URIs, issuer, signer = []*url.URL{id}, by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
	b.must(err)
	p.cert, err = x509.ParseCertificate(der)
	b.must(err)
	return p
}

// typed is a PIN with the counter of a terminal's key serial number, and the void that goes with it.
type typed struct {
	hsm.RecordBlock
	mac []byte // of the void
}

const benchBDK = "0123456789ABCDEFFEDCBA9876543210"

func (b *bench) typed(algorithm string, counter uint32, pin string) typed {
	b.Helper()
	bdk, err := hex.DecodeString(benchBDK)
	b.must(err)
	text, format := fmt.Sprintf("123456789012%04X%08X", 0x3456, counter), pinblock.ISO4
	if algorithm == "T" {
		text, format = fmt.Sprintf("FFFF9876543210%06X", 0xE00000|counter), pinblock.ISO0
	}
	ksn := b.KSN(text)
	pinKey, macKey := make([]byte, 16), make([]byte, 16)
	if algorithm == "T" {
		for v, key := range map[dukpt.Variant][]byte{dukpt.VariantPIN: pinKey, dukpt.VariantMACRequest: macKey} {
			b.must(software.TDESInitialKey(key, bdk, ksn))
			b.must(software.TDESTransactionKey(key, key, ksn))
			b.must(software.TDESWorkingKey(key, key, v))
		}
	} else {
		for usage, key := range map[dukpt.Usage][]byte{dukpt.UsagePIN: pinKey, dukpt.UsageMACGeneration: macKey} {
			path, err := dukpt.NewPath(ksn, dukpt.AES128, usage, dukpt.AES128)
			b.must(err)
			b.must(software.AESDerive(key, bdk, path))
		}
	}
	out := typed{RecordBlock: hsm.RecordBlock{Key: hsm.PINKey{Key: b.bdk(algorithm), KSN: ksn, Format: hsm.Format(format)}, Block: b.sealed(format, pinKey, pin)}}
	fields := benchFields()
	digest, err := fields.Digest()
	b.must(err)
	out.mac = b.cmac(algorithm, macKey, digest[:])
	return out
}

func (b *bench) bdk(algorithm string) hsm.Key {
	return b.Key("B0", algorithm, "X", benchBDK, func(h *hsm.Header) { h.PINKind, h.Direction = hsm.PINRecord, hsm.DirectionIncoming })
}

func benchFields() voidtoken.Fields {
	return voidtoken.Fields{Void: "00112233445566778899aabbccddeeff", Merchant: "merchant-8", Terminal: "t-1", Reference: "1127", Amount: 12345, Currency: 156}
}

// sealed is a block as a terminal makes it.
func (b *bench) sealed(f pinblock.Format, key []byte, digits string) []byte {
	b.Helper()
	pan, err := pinblock.ParsePAN(b.subject.Number())
	b.must(err)
	var pin pinblock.PIN
	b.must(pin.SetDigits([]byte(digits)))
	block := make([]byte, f.Size())
	b.must(pinblock.Encode(block, f, &pin, pan, &[pinblock.RandomSize]byte{1}))
	if f == pinblock.ISO0 {
		k := new(software.TDESKey)
		b.must(k.Set(key))
		k.Encrypt(block, block)
		return block
	}
	c, err := aes.NewCipher(key)
	b.must(err)
	c.Encrypt(block, block)
	b.must(pan.XORField4(block))
	c.Encrypt(block, block)
	return block
}

// cmac is that of a terminal; the token makes it for the test.
func (b *bench) cmac(algorithm string, key, message []byte) []byte {
	b.Helper()
	kind, mechanism, mac := uint(pkcs11.CKK_AES), uint(pkcs11.CKM_AES_CMAC), make([]byte, 16)
	if algorithm == "T" {
		kind, mechanism = pkcs11.CKK_DES2, pkcs11.CKM_DES3_CMAC
	}
	b.must(b.Token.Do(func(s *token.Session) error {
		object, err := s.Import(kind, token.MaySign, key)
		if err != nil {
			return err
		}
		n, err := s.Sign(mechanism, object, mac, message)
		mac = mac[:n]
		return errors.Join(err, s.Destroy(object))
	}))
	return mac
}

func (b *bench) verification(t typed) hsm.VerifyRecord {
	return hsm.VerifyRecord{Record: b.record, DatumKey: b.datum, PIN: t.RecordBlock}
}

func (b *bench) authorization(t typed) hsm.AuthorizeVoid {
	return hsm.AuthorizeVoid{
		Fields: benchFields(), ExpiresAt: b.Now.Add(time.Minute).Unix(), TokenKey: b.token,
		PINs: []hsm.VoidPIN{{
			Key: t.Key, Block: t.Block, MACKey: hsm.MACKey{Key: t.Key.Key, KSN: t.Key.KSN, Algorithm: hsm.CMAC, Padding: 1}, MAC: t.mac,
			Record: &hsm.RecordPIN{Record: b.record, DatumKey: b.datum},
		}},
	}
}

// What the token loses is made anew, and the try counted once.
func TestTheTokenLosesItsObjects(t *testing.T) {
	b := newBench(t)
	for n, algorithm := range []string{"A", "T"} {
		typed := b.typed(algorithm, uint32(16+n), benchPIN)
		b.Renew()
		if verified, err := b.engine.Verify(b.verification(typed)); err != nil || !verified {
			t.Errorf("%s: %v, %v", algorithm, verified, err)
		}
		b.Renew()
		if answer, err := b.engine.Authorize(b.authorization(typed)); err != nil || !answer.Verified {
			t.Errorf("%s: %v, %v", algorithm, answer.Verified, err)
		}
	}
}

// Without a ledger nothing is begun, set or verified.
func TestWithoutALedger(t *testing.T) {
	b := newBench(t)
	typed := b.typed("A", 16, benchPIN)
	b.engine.ledger = ledger.Open(-1)
	if _, err := b.engine.Verify(b.verification(typed)); fault.Of(err).Reason != fault.LedgerUnavailable {
		t.Error(err)
	}
	if _, err := b.engine.Authorize(b.authorization(typed)); fault.Of(err).Reason != fault.LedgerUnavailable {
		t.Error(err)
	}
	if err := b.engine.Revoke(b.record); fault.Of(err).Reason != fault.LedgerUnavailable {
		t.Error(err)
	}
}

func BenchmarkVerifyRecord(bench *testing.B) {
	for name, algorithm := range map[string]string{"AES": "A", "TDES": "T"} {
		bench.Run(name, func(t *testing.B) {
			b := newBench(t)
			r := b.verification(b.typed(algorithm, 16, benchPIN))
			for t.Loop() {
				if verified, err := b.engine.Verify(r); err != nil || !verified {
					t.Fatalf("%v, %v", verified, err)
				}
			}
		})
	}
}

func BenchmarkAuthorizeVoid(bench *testing.B) {
	for name, algorithm := range map[string]string{"AES": "A", "TDES": "T"} {
		bench.Run(name, func(t *testing.B) {
			b := newBench(t)
			r := b.authorization(b.typed(algorithm, 16, benchPIN))
			for t.Loop() {
				if answer, err := b.engine.Authorize(r); err != nil || !answer.Verified {
					t.Fatalf("%v, %v", answer.Verified, err)
				}
			}
		})
	}
}
