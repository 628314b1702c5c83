package macops_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/macops"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

const (
	double  = "0123456789ABCDEFFEDCBA9876543210"
	tdesKSN = "FFFF9876543210E00001"
	aesKSN  = "123456789012345600000001"
)

// every is a key of each kind, by what it is.
func every(b *sealedtest.Bench) map[string]hsm.MACKey {
	return map[string]hsm.MACKey{
		"algorithm 1":             {Key: b.Key("M1", "T", "C", double), Algorithm: hsm.MACAlgorithm1, Padding: 1},
		"algorithm 3":             {Key: b.Key("M3", "T", "C", double), Algorithm: hsm.MACAlgorithm3, Padding: 1},
		"CMAC, TDES":              {Key: b.Key("M6", "T", "C", double), Algorithm: hsm.CMAC, Padding: 1},
		"CMAC, AES":               {Key: b.Key("M6", "A", "C", double), Algorithm: hsm.CMAC, Padding: 1},
		"HMAC":                    {Key: b.Key("M7", "H", "C", double), Algorithm: hsm.HMACSHA256, Padding: 1},
		"algorithm 3, TDES DUKPT": {Key: b.Key("B0", "T", "X", double), KSN: b.KSN(tdesKSN), Algorithm: hsm.MACAlgorithm3, Padding: 1},
		"CMAC, AES DUKPT":         {Key: b.Key("B0", "A", "X", double), KSN: b.KSN(aesKSN), Algorithm: hsm.CMAC, Padding: 1},
		"HMAC-256, AES DUKPT": {Key: b.Key("B0", "A", "X", double+double), KSN: b.KSN(aesKSN), WorkingType: hsm.WorkingAES256,
			Algorithm: hsm.HMACSHA256, Padding: 1},
	}
}

// TestDemands: what would need a working key in memory is refused where the policy wants it
// in the token, and what the record has refused ends with that.
func TestDemands(t *testing.T) {
	b := sealedtest.New(t)
	engine := macops.NewEngine(b.Keys)
	for name, key := range every(b) {
		r := hsm.GenerateMAC{Key: key, Message: []byte("message"), Demands: hsm.Demands{TokenCustody: true}}
		answer, err := engine.Generate(r)
		if strings.Contains(name, "TDES DUKPT") {
			if fault.Of(err).Reason != fault.CustodyUnavailable || answer.MAC != nil {
				t.Errorf("%s: %v, %v", name, answer, err)
			}
		} else if err != nil || answer.Custody != hsm.InToken {
			t.Errorf("%s: %v, %v", name, answer, err)
		}
		r.Demands.KSNRefused = true
		if _, err := engine.Generate(r); fault.Of(err).Reason != fault.KSNReplayed {
			t.Errorf("%s, refused by the record: %v", name, err)
		}
	}
}

// TestLeastLength: a header may demand more of a MAC than its algorithm does.
func TestLeastLength(t *testing.T) {
	b := sealedtest.New(t)
	engine := macops.NewEngine(b.Keys)
	for demanded, least := range map[uint8]int{0: 4, 3: 4, 6: 6, 8: 8} {
		key := hsm.MACKey{Key: b.Key("M3", "T", "C", double, func(h *hsm.Header) { h.MACLength = demanded }), Algorithm: hsm.MACAlgorithm3, Padding: 1}
		for n := 1; n <= 9; n++ {
			_, err := engine.Verify(hsm.VerifyMAC{Key: key, MAC: make([]byte, n)})
			if allowed := n >= least && n <= 8; allowed != (err == nil) || !allowed && fault.Of(err).Reason != fault.RequestInvalid {
				t.Errorf("%d bytes where %d are demanded: %v", n, demanded, err)
			}
		}
	}
}

// TestLostObjectsAreMadeAnew: the token loses everything between two operations.
func TestLostObjectsAreMadeAnew(t *testing.T) {
	b := sealedtest.New(t)
	engine := macops.NewEngine(b.Keys)
	for name, key := range every(b) {
		first, err := engine.Generate(hsm.GenerateMAC{Key: key, Message: []byte("message")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.Renew()
		verified, err := engine.Verify(hsm.VerifyMAC{Key: key, Message: []byte("message"), MAC: first.MAC})
		if err != nil || !verified.Verified {
			t.Errorf("%s: %v, %v", name, verified, err)
		}
	}
}

// BenchmarkMAC is a MAC over 128 bytes, each beside the bare token calls that make it.
func BenchmarkMAC(b *testing.B) {
	s := sealedtest.New(b)
	engine := macops.NewEngine(s.Keys)
	message := make([]byte, 128)
	for name, key := range every(s) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := engine.Generate(hsm.GenerateMAC{Key: key, Message: message}); err != nil {
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
		aes, err := session.Import(pkcs11.CKK_AES, token.MaySign, value)
		if err != nil {
			return err
		}
		tdes, err := session.Import(pkcs11.CKK_DES2, token.MayEncrypt, value)
		if err != nil {
			return err
		}
		out, iv := make([]byte, 128), make([]byte, 8)
		b.Run("bare token: C_Sign CMAC, AES", func(b *testing.B) {
			for b.Loop() {
				if _, err := session.Sign(pkcs11.CKM_AES_CMAC, aes, out, message); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("bare token: CBC and ECB, for algorithm 3", func(b *testing.B) {
			for b.Loop() {
				if err := session.EncryptCBC(pkcs11.CKM_DES3_CBC, iv, tdes, out, message[:120]); err != nil {
					b.Fatal(err)
				}
				if err := session.Encrypt(pkcs11.CKM_DES3_ECB, tdes, out[:8], message[120:]); err != nil {
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
