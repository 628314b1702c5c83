package module

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyagreement"
	"keyd/keyblock"
	"keyd/receipt"
	"keyd/tr34"
)

// opened unwraps a block, as a terminal does, under a key of that algorithm.
func (f *factory) opened(algorithm string, kbpk []byte, text string) (*keyblock.Block, []byte) {
	f.t.Helper()
	block, err := keyblock.Parse([]byte(text))
	f.must(err)
	f.must(errors.Join(block.Header.Validate(), block.Header.CheckBlocks()))
	kind, err := sealing.KeyType(algorithm, len(kbpk))
	f.must(err)
	var value []byte
	f.must(f.token.Do(func(s *token.Session) error {
		object, err := s.Import(kind, token.MaySign, kbpk)
		if err != nil {
			return err
		}
		out := make([]byte, 64)
		n, err := keyblocks.Unwrap(s, keyblocks.KBPK{Algorithm: algorithm, Length: len(kbpk), Key: object}, block, out)
		value = out[:n]
		return errors.Join(err, s.Destroy(object))
	}))
	return block, value
}

// checkValue is that of a key that a terminal has.
func (f *factory) checkValue(algorithm string, value []byte) (check string) {
	f.t.Helper()
	f.must(f.token.Do(func(s *token.Session) (err error) {
		check, err = sealing.CheckValue(s, algorithm, value)
		return err
	}))
	return check
}

// mac is the CMAC that a terminal makes.
func (f *factory) mac(algorithm string, key, text []byte) []byte {
	f.t.Helper()
	kind, err := sealing.KeyType(algorithm, len(key))
	f.must(err)
	out := make([]byte, 16)
	f.must(f.token.Do(func(s *token.Session) error {
		object, err := s.Import(kind, token.MaySign, key)
		if err != nil {
			return err
		}
		mechanism := uint(pkcs11.CKM_AES_CMAC)
		if algorithm == "T" {
			mechanism = pkcs11.CKM_DES3_CMAC
		}
		n, err := s.Sign(mechanism, object, out, text)
		out = out[:n]
		return errors.Join(err, s.Destroy(object))
	}))
	return out
}

// has is what a terminal has after an injection.
type has struct {
	record *receipt.Record
	values [][]byte // of all keys, in the order of the record
	given  *hsm.Injected
}

// open has a terminal open key blocks, compares them with the record, and looks at the headers.
// first are keys that came otherwise.
func (f *factory) open(given *hsm.Injected, algorithm string, kbpk []byte, blocks []string, first ...[]byte) *has {
	f.t.Helper()
	encoded, _, err := receipt.Split(given.Record)
	f.must(err)
	h := &has{given: given, values: first}
	h.record, err = receipt.ParseRecord(encoded)
	f.must(err)
	for _, text := range blocks {
		block, value := f.opened(algorithm, kbpk, text)
		k := &h.record.Keys[len(h.values)]
		mode := map[string]byte{"K1": 'D', "K0": 'D', "M6": 'G', "B1": 'X'}[k.Usage]
		if b := &block.Header; b.Usage != k.Usage || string(b.Algorithm) != k.Algorithm || b.Mode != mode || b.Exportability != 'N' || len(value) != int(k.Length) {
			f.t.Errorf("%s: %s of %d bytes, the record says %+v", k.Name, block.HeaderText, len(value), k)
		}
		if k.Usage == "B1" {
			name := map[string]string{"A": "IK", "T": "KS"}[k.Algorithm]
			if said, there := block.Header.Find(name); !there || said != k.ID {
				f.t.Errorf("%s: it names %q, the record %q", k.Name, said, k.ID)
			}
		}
		h.values = append(h.values, value)
	}
	if len(h.values) != len(h.record.Keys) {
		f.t.Fatalf("%d keys, the record has %d", len(h.values), len(h.record.Keys))
	}
	for i, k := range h.record.Keys {
		if check := f.checkValue(k.Algorithm, h.values[i]); check != k.CheckValue {
			f.t.Errorf("%s: check value %s, the record says %s", k.Name, check, k.CheckValue)
		}
	}
	return h
}

// receipt is what the terminal says.
func (f *factory) receipt(h *has) hsm.ConfirmInjection {
	f.t.Helper()
	id, err := hex.DecodeString(h.record.Injection)
	f.must(err)
	text, err := receipt.Text([16]byte(id), h.record.CheckValues())
	f.must(err)
	return hsm.ConfirmInjection{
		Record: h.given.Record, ReceiptKey: hsm.Key{Name: "terminal:" + h.record.Terminal + ":receipt", Sealed: h.given.ReceiptKey}, CheckValues: h.record.CheckValues(),
		MAC: f.mac(h.record.Keys[1].Algorithm, h.values[1], text),
	}
}

func (h *has) master() hsm.Key {
	return hsm.Key{Name: "terminal:" + h.record.Terminal + ":master", Sealed: h.given.Master}
}

// agreed is a terminal's side of a key agreement.
func (f *factory) agreed(tm *keyagreement.Terminal, curve keyagreement.Curve, given *hsm.Injected) *has {
	f.t.Helper()
	kbpk := make([]byte, curve.KeySize())
	answer, err := tm.Answer(given.Answer, func(chain []*x509.Certificate) error {
		if !chain[0].Equal(f.host) {
			return errors.New("another host")
		}
		return nil
	}, kbpk)
	f.must(err)
	return f.open(given, "A", kbpk, answer.Blocks)
}

// confirmed confirms an injection, and looks at the statement.
func (f *factory) confirmed(h *has) {
	f.t.Helper()
	said := f.receipt(h)
	statement, err := f.client.ConfirmInjection(f.t.Context(), said)
	f.must(err)
	confirmed, err := receipt.Open(statement)
	f.must(err)
	der, err := x509.MarshalPKIXPublicKey(confirmed.Identity)
	f.must(err)
	if ceremony.Digest(der) != f.identity || confirmed.Record.Injection != h.record.Injection || !bytes.Equal(confirmed.Receipt.MAC, said.MAC) || confirmed.At < confirmed.Record.At {
		f.t.Errorf("%+v", confirmed)
	}
}

// tr34Device is the terminal's side of TR-34.
func (f *factory) tr34Device(d *holder, profile string) *tr34.Device {
	f.t.Helper()
	p, known := tr34.ProfileNamed(profile)
	if !known {
		f.t.Fatalf("no profile %q", profile)
	}
	authorities := []*x509.Certificate{f.hostAuthority.cert}
	return &tr34.Device{Certificate: d.cert, Decrypt: tr34.RSADecrypt(d.key.(*rsa.PrivateKey)), Trust: &tr34.Trust{Roots: authorities, HostCAs: authorities}, Profile: p}
}

// taken is a terminal's side of a key token, with the random number that it sent; "" is one-pass.
func (f *factory) taken(d *holder, profile, random string, given *hsm.Injected) *has {
	f.t.Helper()
	expect := tr34.Expectation{Host: f.rsaHost, Now: f.now, Random: []byte(random), CRLs: [][]byte{f.hostList()}}
	if random == "" {
		expect.Random, expect.After = nil, f.now.Add(-time.Minute)
	}
	master := make([]byte, 32)
	got, err := f.tr34Device(d, profile).OpenKeyToken(given.Answer, expect, make([]byte, tr34.ScratchSize), master)
	f.must(err)
	master = master[:got.Size]
	header, _, err := keyblock.ParseHeader([]byte(got.Header))
	f.must(err)
	f.must(header.Validate())
	if header.Usage != "K1" || header.Mode != 'D' || header.Exportability != 'N' {
		f.t.Errorf("the master key comes as %s", got.Header)
	}
	return f.open(given, string(header.Algorithm), master, given.KeyBlocks, master)
}
