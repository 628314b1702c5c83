package dataops_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/dataops"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

const double = "0123456789ABCDEFFEDCBA9876543210"

func every(b *sealedtest.Bench) map[string]hsm.DataKey {
	return map[string]hsm.DataKey{
		"TDES":       {Key: b.Key("D0", "T", "B", double), Mode: hsm.CBC},
		"AES":        {Key: b.Key("D0", "A", "B", double), Mode: hsm.CBC},
		"AES CTR":    {Key: b.Key("D0", "A", "B", double), Mode: hsm.CTR},
		"TDES DUKPT": {Key: b.Key("B0", "T", "X", double), KSN: b.KSN("FFFF9876543210E00001"), Mode: hsm.CBC},
		"AES DUKPT":  {Key: b.Key("B0", "A", "X", double), KSN: b.KSN("123456789012345600000001"), Mode: hsm.CBC},
		"TDES of AES DUKPT": {Key: b.Key("B0", "A", "X", double), KSN: b.KSN("123456789012345600000001"), Mode: hsm.CBC,
			WorkingType: hsm.WorkingTDES2, Response: true},
	}
}

// TestThereAndBack: what is enciphered under any key, re-encrypted to any other and
// deciphered is what it was, also when the token has lost its objects in between.
func TestThereAndBack(t *testing.T) {
	b := sealedtest.New(t)
	engine := dataops.NewEngine(b.Keys)
	plain := bytes.Repeat([]byte("0123456789ABCDEF"), 1025) // three parts, the last of one block
	for from, in := range every(b) {
		made, err := engine.Encrypt(hsm.EncryptData{Key: in, Data: plain})
		if err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		for to, out := range every(b) {
			b.Renew()
			moved, err := engine.ReEncrypt(hsm.ReEncryptData{Incoming: in, Outgoing: out, Data: made.Data, IV: made.IV})
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			b.Renew()
			back, err := engine.Decrypt(hsm.DecryptData{Key: out, Data: moved.Data, IV: moved.IV})
			if err != nil || !bytes.Equal(back.Data, plain) {
				t.Errorf("%s to %s and back: %v", from, to, err)
			}
			if bytes.Contains(moved.Data, plain[:32]) {
				t.Errorf("%s to %s: the data are clear", from, to)
			}
		}
	}
}

// TestDemands: clear data are in the module's memory whatever the key.
func TestDemands(t *testing.T) {
	b := sealedtest.New(t)
	engine := dataops.NewEngine(b.Keys)
	for name, key := range every(b) {
		_, err := engine.Encrypt(hsm.EncryptData{Key: key, Data: make([]byte, 16), Demands: hsm.Demands{TokenCustody: true}})
		if fault.Of(err).Reason != fault.CustodyUnavailable {
			t.Errorf("%s: %v", name, err)
		}
		_, err = engine.Decrypt(hsm.DecryptData{Key: key, Data: make([]byte, 16), Demands: hsm.Demands{KSNRefused: true}})
		if fault.Of(err).Reason != fault.KSNReplayed {
			t.Errorf("%s, refused by the record: %v", name, err)
		}
	}
}

// TestPeers: data go to peers only.
func TestPeers(t *testing.T) {
	b := sealedtest.New(t)
	engine := dataops.NewEngine(b.Keys)
	peers := func(p ...string) func(*hsm.Header) { return func(h *hsm.Header) { h.Peers = p } }
	in := hsm.DataKey{Key: b.Key("D0", "A", "D", double, peers("acquirer")), Mode: hsm.CBC}
	for name, allowed := range map[string]bool{"acquirer": true, "issuer": false} {
		out := hsm.DataKey{Key: b.Key("D0", "A", "E", double, peers(name)), Mode: hsm.CBC}
		_, err := engine.ReEncrypt(hsm.ReEncryptData{Incoming: in, Outgoing: out, Data: make([]byte, 16), IV: make([]byte, 16)})
		if allowed != (err == nil) || !allowed && fault.Of(err).Reason != fault.TranslationForbidden {
			t.Errorf("to %s: %v", name, err)
		}
	}
}

// BenchmarkReEncrypt moves 256 bytes, beside the bare token calls that do it.
func BenchmarkReEncrypt(b *testing.B) {
	s := sealedtest.New(b)
	engine := dataops.NewEngine(s.Keys)
	keys := every(s)
	out := keys["AES"]
	data := make([]byte, 256)
	for _, name := range []string{"AES", "TDES", "TDES DUKPT", "AES DUKPT"} {
		in := keys[name]
		iv := make([]byte, 16)
		if name[0] == 'T' {
			iv = iv[:8]
		}
		b.Run(name+" to AES", func(b *testing.B) {
			for b.Loop() {
				if _, err := engine.ReEncrypt(hsm.ReEncryptData{Incoming: in, Outgoing: out, Data: data, IV: iv}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	value, err := hex.DecodeString(double)
	if err != nil {
		b.Fatal(err)
	}
	err = s.Token.Do(func(session *token.Session) error {
		aes, err := session.Import(pkcs11.CKK_AES, token.MayEncrypt|token.MayDecrypt, value)
		if err != nil {
			return err
		}
		clear, iv := make([]byte, 256), make([]byte, 16)
		b.Run("bare token: AES to AES", func(b *testing.B) {
			for b.Loop() {
				if err := session.DecryptCBC(pkcs11.CKM_AES_CBC, iv, aes, clear, data); err != nil {
					b.Fatal(err)
				}
				if err := session.EncryptCBC(pkcs11.CKM_AES_CBC, iv, aes, data, clear); err != nil {
					b.Fatal(err)
				}
			}
		})
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
