package tokentest

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/token"
)

var pairCurves = []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}

// pairs is the part of the suite about key pairs.
func pairs(t *testing.T, tok *token.Token) {
	t.Run("an EC pair signs and does nothing else", func(t *testing.T) { pairSignsEC(t, tok) })
	t.Run("an EC pair agrees, leading zeros and all", func(t *testing.T) { pairAgrees(t, tok) })
	t.Run("HPKE opens through the token", func(t *testing.T) { pairHPKE(t, tok) })
	t.Run("an RSA pair signs", func(t *testing.T) { pairSignsRSA(t, tok) })
	t.Run("an RSA pair decrypts", func(t *testing.T) { pairDecrypts(t, tok) })
	t.Run("pairs are found, listed and destroyed", func(t *testing.T) { pairLife(t, tok) })
	t.Run("what no pair can be is refused", func(t *testing.T) { pairRefusals(t, tok) })
}

func generateEC(t *testing.T, tok *token.Token, label string, curve elliptic.Curve, use token.PairUse) (p token.Pair) {
	t.Helper()
	do(t, tok, func(s *token.Session) (err error) { p, err = s.GenerateEC(label, curve, use); return err })
	return p
}

// digests are of all sizes that a signer takes: longer and shorter than each order.
func digests() map[crypto.Hash][]byte {
	d2, d3, d5 := sha256.Sum256([]byte("keyd")), sha512.Sum384([]byte("keyd")), sha512.Sum512([]byte("keyd"))
	return map[crypto.Hash][]byte{crypto.SHA256: d2[:], crypto.SHA384: d3[:], crypto.SHA512: d5[:]}
}

func pairSignsEC(t *testing.T, tok *token.Token) {
	for _, curve := range pairCurves {
		p := generateEC(t, tok, "sign "+curve.Params().Name, curve, token.PairSigns)
		public := p.Public.(*ecdsa.PublicKey)
		if public.Curve != curve {
			t.Fatalf("%s: the key is on another curve", curve.Params().Name)
		}
		do(t, tok, func(s *token.Session) error {
			signer := s.Signer(p)
			for hash, digest := range digests() {
				for range 20 { // some have an r or s that is shorter than the order
					signature, err := signer.Sign(rand.Reader, digest, hash)
					if err != nil {
						return err
					}
					if !ecdsa.VerifyASN1(public, digest, signature) {
						t.Errorf("%s, %v: the signature does not verify", curve.Params().Name, hash)
					}
				}
			}
			return requestCertificate(t, signer)
		})
		other, _ := public.ECDH()
		if err := tok.Do(func(s *token.Session) error { return s.ECDH(p, other, make([]byte, len(other.Bytes())/2)) }); err == nil {
			t.Error("a pair that signs agrees")
		}
		// The token itself refuses, not only this package.
		forged := p
		forged.Use = token.PairAgrees
		if err := tok.Do(func(s *token.Session) error { return s.ECDH(forged, other, make([]byte, len(other.Bytes())/2)) }); err == nil && tok.Knows().DeriveRight {
			t.Error("the token lets a pair that signs agree")
		}
		staysInside(t, tok, p)
	}
}

// staysInside tries to wrap the private key.
func staysInside(t *testing.T, tok *token.Token, p token.Pair) {
	t.Helper()
	for _, mechanism := range []uint{token.CKMAESKeyWrapPad, pkcs11.CKM_AES_KEY_WRAP} {
		err := tok.Do(func(s *token.Session) error {
			kek, err := s.Import(pkcs11.CKK_AES, token.MayWrap, make([]byte, 32))
			if err != nil {
				return err
			}
			if _, err := s.Wrap(mechanism, kek, p.Private); err == nil && tok.Knows().NotExtractable {
				t.Error("a private key can be wrapped")
			}
			return s.Destroy(kek)
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func requestCertificate(t *testing.T, signer crypto.Signer) error {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "keyd"}}, signer)
	if err != nil {
		return err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = request.CheckSignature()
	}
	return err
}

// Each curve agrees on so many secrets of any kind, and on so many that begin with a zero
// byte: one in 256, for P-521 every other.
const agreements, zeroAgreements = 60, 3

func pairAgrees(t *testing.T, tok *token.Token) {
	for _, curve := range pairCurves {
		p := generateEC(t, tok, "agree "+curve.Params().Name, curve, token.PairAgrees)
		own, err := p.Public.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		for left, zeros := agreements, zeroAgreements; left > 0 || zeros > 0; {
			other, err := own.Curve().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			want, err := other.ECDH(own)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case want[0] == 0 && zeros > 0:
				zeros--
			case left > 0:
				left--
			default:
				continue
			}
			do(t, tok, func(s *token.Session) error {
				out := s.Scratch()[:len(want)]
				if err := s.ECDH(p, other.PublicKey(), out); err != nil {
					return err
				}
				if !bytes.Equal(out, want) {
					t.Errorf("%s: the token agreed on %X, the peer on %X", curve.Params().Name, out, want)
				}
				return nil
			})
		}
		digest := sha256.Sum256(nil)
		for _, use := range []token.PairUse{token.PairAgrees, token.PairSigns} { // refused here, then by the token
			forged := p
			forged.Use = use
			if err := tok.Do(func(s *token.Session) error {
				_, err := s.Signer(forged).Sign(nil, digest[:], crypto.SHA256)
				return err
			}); err == nil {
				t.Error("a pair that agrees signs")
			}
		}
		staysInside(t, tok, p)
		refusedPeers(t, tok, p, own)
	}
}

func refusedPeers(t *testing.T, tok *token.Token, p token.Pair, own *ecdh.PublicKey) {
	size := len(own.Bytes()) / 2
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(*token.Session) error{
		"another curve": func(s *token.Session) error { return s.ECDH(p, x25519.PublicKey(), make([]byte, size)) },
		"no peer":       func(s *token.Session) error { return s.ECDH(p, nil, make([]byte, size)) },
		"no room":       func(s *token.Session) error { return s.ECDH(p, own, nil) },
		"too much room": func(s *token.Session) error { return s.ECDH(p, own, make([]byte, size+1)) },
		"no pair":       func(s *token.Session) error { return s.ECDH(token.Pair{}, own, make([]byte, size)) },
		"exchanger: no room": func(s *token.Session) error {
			_, err := s.KeyExchanger(p, make([]byte, size-1))
			return err
		},
		"exchanger: no pair": func(s *token.Session) error {
			_, err := s.KeyExchanger(token.Pair{}, make([]byte, size))
			return err
		},
	} {
		if tok.Do(call) == nil {
			t.Errorf("%s: agreed", name)
		}
	}
}

func pairHPKE(t *testing.T, tok *token.Token) {
	info, plain := []byte("keyd conformance"), []byte("a key on its way")
	for _, curve := range pairCurves {
		p := generateEC(t, tok, "hpke "+curve.Params().Name, curve, token.PairAgrees)
		own, err := p.Public.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		public, err := hpke.NewDHKEMPublicKey(own)
		if err != nil {
			t.Fatal(err)
		}
		region, err := locked.New(len(own.Bytes()) / 2)
		if err != nil {
			t.Fatal(err)
		}
		memory := region.Bytes()[:len(own.Bytes())/2]
		for range 10 {
			sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info, plain)
			if err != nil {
				t.Fatal(err)
			}
			do(t, tok, func(s *token.Session) error {
				exchanger, err := s.KeyExchanger(p, memory)
				if err != nil {
					return err
				}
				defer exchanger.Wipe()
				private, err := hpke.NewDHKEMPrivateKey(exchanger)
				if err != nil {
					return err
				}
				opened, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
				if err != nil || !bytes.Equal(opened, plain) {
					t.Errorf("%s: opened %q, %v", curve.Params().Name, opened, err)
				}
				sealed[len(sealed)-1] ^= 1
				if _, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed); err == nil {
					t.Errorf("%s: an altered message was opened", curve.Params().Name)
				}
				sealed[len(sealed)-1] ^= 1
				exchanger.Wipe()
				if !bytes.Equal(memory, make([]byte, len(memory))) {
					t.Error("Wipe leaves the secret")
				}
				// The token's part first, then what is erased.
				peer, err := own.Curve().NewPublicKey(sealed[:len(own.Bytes())])
				if err != nil {
					return err
				}
				if _, err := exchanger.ECDH(peer); err != nil {
					return err
				}
				var erased bool
				erase.Do(func() {
					opened, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
					erased = err == nil && bytes.Equal(opened, plain)
				})
				if !erased {
					t.Errorf("%s: not opened within erase.Do", curve.Params().Name)
				}
				return nil
			})
		}
		region.Free()
	}
}

func pairSignsRSA(t *testing.T, tok *token.Token) {
	var p token.Pair
	do(t, tok, func(s *token.Session) (err error) {
		p, err = s.GenerateRSA("sign RSA", 2048, token.PairSigns)
		return err
	})
	public := p.Public.(*rsa.PublicKey)
	do(t, tok, func(s *token.Session) error {
		signer := s.Signer(p)
		for hash, digest := range digests() {
			signature, err := signer.Sign(rand.Reader, digest, hash)
			if err == nil {
				err = rsa.VerifyPKCS1v15(public, hash, digest, signature)
			}
			if err != nil {
				t.Errorf("PKCS #1 v1.5, %v: %v", hash, err)
			}
			for _, salt := range []int{rsa.PSSSaltLengthAuto, rsa.PSSSaltLengthEqualsHash, 20} {
				opts := &rsa.PSSOptions{SaltLength: salt, Hash: hash}
				signature, err := signer.Sign(rand.Reader, digest, opts)
				if err == nil {
					err = rsa.VerifyPSS(public, hash, digest, signature, opts)
				}
				if err != nil {
					t.Errorf("PSS, %v, salt %d: %v", hash, salt, err)
				}
			}
		}
		for _, salt := range []int{-2, 256, 1 << 40} {
			if _, err := signer.Sign(rand.Reader, make([]byte, 32), &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256}); err == nil {
				t.Errorf("PSS with a salt of %d bytes: signed", salt)
			}
		}
		return requestCertificate(t, signer)
	})
	for name, sign := range map[string]func(crypto.Signer) error{
		"SHA-1":              func(k crypto.Signer) error { _, err := k.Sign(nil, make([]byte, 20), crypto.SHA1); return err },
		"no hash function":   func(k crypto.Signer) error { _, err := k.Sign(nil, make([]byte, 32), crypto.Hash(0)); return err },
		"no options":         func(k crypto.Signer) error { _, err := k.Sign(nil, make([]byte, 32), nil); return err },
		"no digest":          func(k crypto.Signer) error { _, err := k.Sign(nil, nil, crypto.SHA256); return err },
		"a digest too short": func(k crypto.Signer) error { _, err := k.Sign(nil, make([]byte, 31), crypto.SHA256); return err },
	} {
		if tok.Do(func(s *token.Session) error { return sign(s.Signer(p)) }) == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if tok.Do(func(s *token.Session) error {
		_, err := s.Signer(token.Pair{Use: token.PairSigns}).Sign(nil, make([]byte, 32), crypto.SHA256)
		return err
	}) == nil {
		t.Error("a pair without keys signed")
	}
	forged := p
	forged.Use = token.PairDecrypts
	if tok.Do(func(s *token.Session) error {
		_, err := s.DecryptOAEP(forged, crypto.SHA1, make([]byte, 256), make([]byte, 256))
		return err
	}) == nil {
		t.Error("a pair that signs decrypts")
	}
}

func pairDecrypts(t *testing.T, tok *token.Token) {
	var p token.Pair
	do(t, tok, func(s *token.Session) (err error) {
		p, err = s.GenerateRSA("decrypt RSA", 2048, token.PairDecrypts)
		return err
	})
	public := p.Public.(*rsa.PublicKey)
	message := []byte("a key on its way")
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, message, nil)
	if err != nil {
		t.Fatal(err)
	}
	do(t, tok, func(s *token.Session) error {
		out := s.Scratch()[:256]
		n, err := s.DecryptOAEP(p, crypto.SHA1, out, sealed)
		if err == nil && !bytes.Equal(out[:n], message) {
			t.Errorf("deciphered %X", out[:n])
		}
		return err
	})
	altered := bytes.Clone(sealed)
	altered[255] ^= 1
	for name, in := range map[string][]byte{
		"altered": altered, "short": sealed[:255], "empty": nil,
		"not below the modulus": bytes.Repeat([]byte{0xFF}, 256),
	} {
		out := bytes.Repeat([]byte{1}, 256)
		err := tok.Do(func(s *token.Session) error { _, err := s.DecryptOAEP(p, crypto.SHA1, out, in); return err })
		if token.ClassOf(err) != token.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tok.Do(func(s *token.Session) error {
		_, err := s.DecryptOAEP(p, crypto.SHA1, make([]byte, 255), sealed)
		return err
	}) == nil {
		t.Error("deciphered without room")
	}
	if tok.Do(func(s *token.Session) error {
		_, err := s.DecryptOAEP(p, crypto.MD5, make([]byte, 256), sealed)
		return err
	}) == nil {
		t.Error("deciphered with MD5")
	}
	forged := p
	forged.Use = token.PairSigns
	if tok.Do(func(s *token.Session) error {
		_, err := s.Signer(forged).Sign(nil, make([]byte, 32), crypto.SHA256)
		return err
	}) == nil {
		t.Error("a pair that decrypts signs")
	}
}

func pairLife(t *testing.T, tok *token.Token) {
	made := generateEC(t, tok, "life b", elliptic.P256(), token.PairAgrees)
	generateEC(t, tok, "life a", elliptic.P384(), token.PairSigns)
	do(t, tok, func(s *token.Session) error {
		found, err := s.FindPair("life b")
		if err != nil {
			return err
		}
		if found.Use != token.PairAgrees || !made.Public.(*ecdsa.PublicKey).Equal(found.Public) {
			t.Errorf("found %+v, made %+v", found, made)
		}
		if labels, err := s.PairLabels("life "); err != nil || !slices.Equal(labels, []string{"life a", "life b"}) {
			t.Errorf("labels: %q, %v", labels, err)
		}
		if _, err := s.GenerateEC("life b", elliptic.P256(), token.PairAgrees); !errors.Is(err, token.ErrExists) {
			t.Errorf("a second pair with the same label: %v", err)
		}
		if err := s.DestroyPair("life "); !errors.Is(err, token.ErrNoObject) {
			t.Errorf("a label that is the beginning of others: %v", err)
		}
		if err := s.DestroyPair("life b"); err != nil {
			return err
		}
		if _, err := s.FindPair("life b"); !errors.Is(err, token.ErrNoObject) {
			t.Errorf("after its end: %v", err)
		}
		if labels, err := s.PairLabels("life "); err != nil || !slices.Equal(labels, []string{"life a"}) {
			t.Errorf("labels: %q, %v", labels, err)
		}
		all, err := s.PairLabels("")
		if err == nil && !slices.IsSorted(all) || len(all) < 2 {
			t.Errorf("all labels: %q", all)
		}
		return err
	})
	if err := tok.Do(func(s *token.Session) error { return s.DestroyPair("life b") }); !errors.Is(err, token.ErrNoObject) {
		t.Errorf("a pair was destroyed twice: %v", err)
	}
}

// hostileLabels are refused wherever a label is taken.
var hostileLabels = []string{"", strings.Repeat("x", 129), strings.Repeat("x", 1<<20), "a\x00b", "a\nb", "\xFF"}

func pairRefusals(t *testing.T, tok *token.Token) {
	refused := func(name string, f func(*token.Session) error) {
		t.Helper()
		if err := tok.Do(f); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	ec := func(curve elliptic.Curve, use token.PairUse) func(*token.Session) error {
		return func(s *token.Session) error { _, err := s.GenerateEC("refused", curve, use); return err }
	}
	refused("P-224", ec(elliptic.P224(), token.PairSigns))
	refused("no curve", ec(nil, token.PairSigns))
	refused("EC to decrypt", ec(elliptic.P256(), token.PairDecrypts))
	refused("no use", ec(elliptic.P256(), 0))
	refused("unknown use", ec(elliptic.P256(), 9))
	for _, bits := range []int{-1, 0, 1024, 2047, 2049, 4097, 8192} {
		refused("RSA size", func(s *token.Session) error { _, err := s.GenerateRSA("refused", bits, token.PairSigns); return err })
	}
	refused("RSA to agree", func(s *token.Session) error { _, err := s.GenerateRSA("refused", 2048, token.PairAgrees); return err })
	for _, label := range hostileLabels {
		do(t, tok, func(s *token.Session) error {
			_, generated := s.GenerateEC(label, elliptic.P256(), token.PairSigns)
			_, found := s.FindPair(label)
			destroyed := s.DestroyPair(label)
			for _, err := range []error{generated, found, destroyed} {
				if !errors.Is(err, token.ErrLabel) {
					t.Errorf("label of %d bytes: %v", len(label), err)
				}
			}
			if _, err := s.PairLabels(label); label != "" && !errors.Is(err, token.ErrLabel) {
				t.Errorf("prefix of %d bytes: %v", len(label), err)
			}
			return nil
		})
	}
	do(t, tok, func(s *token.Session) error {
		if labels, err := s.PairLabels("refused"); err != nil || len(labels) != 0 {
			t.Errorf("something was left: %q, %v", labels, err)
		}
		p, err := s.GenerateEC(strings.Repeat("é", 64), elliptic.P256(), token.PairSigns) // 128 bytes
		if err != nil {
			return err
		}
		return s.DestroyPair(p.Label)
	})
}
