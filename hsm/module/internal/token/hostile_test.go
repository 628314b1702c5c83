package token_test

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"fmt"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

// other is another program's access to the token, through the same library, which is
// initialised and logged in already.
type other struct {
	*testing.T
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
}

func otherProgram(t *testing.T, fresh tokentest.Fresh) other {
	t.Helper()
	ctx := pkcs11.New(fresh.Path)
	if ctx == nil {
		t.Fatal("the library cannot be loaded")
	}
	slot, _, err := fresh.Library.FindToken(fresh.Label)
	if err != nil {
		t.Fatal(err)
	}
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ctx.CloseSession(session) })
	return other{t, ctx, session}
}

func (o other) create(attributes ...*pkcs11.Attribute) {
	o.Helper()
	if _, err := o.ctx.CreateObject(o.session, append(attributes, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))); err != nil {
		o.Fatal(err)
	}
}

func (o other) destroy(object pkcs11.ObjectHandle) {
	o.Helper()
	if err := o.ctx.DestroyObject(o.session, object); err != nil {
		o.Fatal(err)
	}
}

func (o other) read(object token.Object, kind uint) []byte {
	o.Helper()
	got, err := o.ctx.GetAttributeValue(o.session, pkcs11.ObjectHandle(object), []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil {
		o.Fatal(err)
	}
	return got[0].Value
}

// generate makes an EC pair of this label, with these attributes besides.
func (o other) generate(label string, id []byte, public, private []*pkcs11.Attribute) (publicObject, privateObject pkcs11.ObjectHandle) {
	o.Helper()
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	}
	p256 := pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07})
	publicObject, privateObject, err := o.ctx.GenerateKeyPair(o.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		append(append(public, common...), p256), append(private, common...))
	if err != nil {
		o.Fatal(err)
	}
	return publicObject, privateObject
}

// TestPlantedPublicKeys: a public object needs no PIN, and is not believed, though it has
// all attributes of the pair's own, CKA_LOCAL too.
func TestPlantedPublicKeys(t *testing.T) {
	fresh := tokentest.SoftHSM(t)
	tok := fresh.Open(t, 1)
	o := otherProgram(t, fresh)
	for _, use := range []token.PairUse{token.PairSigns, token.PairAgrees} {
		label := fmt.Sprint("use ", use)
		var p token.Pair
		do(t, tok, func(s *token.Session) (err error) { p, err = s.GenerateEC(label, elliptic.P256(), use); return err })
		id := o.read(p.Private, pkcs11.CKA_ID)
		if len(id) != 16 || !bytes.Equal(id, o.read(p.PublicObject, pkcs11.CKA_ID)) {
			t.Errorf("%s: CKA_ID %X", label, id)
		}
		_, private := o.generate(label, id, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
			pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, use == token.PairSigns),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY_RECOVER, false),
			pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		}, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false)})
		o.destroy(private)
		if _, err := find(tok, label); err == nil {
			t.Errorf("%s: found with two public keys", label)
		}
		o.destroy(pkcs11.ObjectHandle(p.PublicObject))
		if _, err := find(tok, label); !errors.Is(err, token.ErrPair) {
			t.Errorf("%s, with another public key: %v", label, err)
		}
	}
}

// TestForeignPairs: a pair that keyd would not have made like this is not used.
func TestForeignPairs(t *testing.T) {
	fresh := tokentest.SoftHSM(t)
	tok := fresh.Open(t, 1)
	o := otherProgram(t, fresh)
	sign, agree := pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true)
	private := pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true)
	pair := func(label string, private ...*pkcs11.Attribute) { o.generate(label, []byte(label), nil, private) }
	pair("defaults", private)
	pair("two uses", private, sign, agree)
	pair("extractable", private, sign, pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
	pair("not private", pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false), sign)
	for _, label := range []string{"defaults", "two uses", "extractable", "not private"} {
		if _, err := find(tok, label); err == nil {
			t.Errorf("%s: found", label)
		}
	}
	pair("twice", private, sign)
	pair("twice", private, sign)
	if _, err := find(tok, "twice"); err == nil || errors.Is(err, token.ErrNoObject) {
		t.Errorf("two pairs of one label: %v", err)
	}
	if err := tok.Do(func(s *token.Session) error {
		_, err := s.GenerateEC("twice", elliptic.P256(), token.PairSigns)
		return err
	}); !errors.Is(err, token.ErrExists) {
		t.Errorf("a third pair of one label: %v", err)
	}
	do(t, tok, func(s *token.Session) error {
		labels, err := s.PairLabels("tw")
		if len(labels) != 2 || labels[0] != "twice" || labels[1] != "two uses" {
			t.Errorf("labels: %q", labels)
		}
		return err
	})
}

// TestForeignSecrets: keys of other makers are described as they are, and never one of
// several.
func TestForeignSecrets(t *testing.T) {
	fresh := tokentest.SoftHSM(t)
	tok := fresh.Open(t, 1)
	o := otherProgram(t, fresh)
	secret := func(label string, keyType uint, size int, more ...*pkcs11.Attribute) {
		o.create(append(more,
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, bytes.Repeat([]byte{1}, size)))...)
	}
	for label, c := range map[string]struct {
		keyType uint
		size    int
	}{
		"DES2": {pkcs11.CKK_DES2, 16}, "DES3": {pkcs11.CKK_DES3, 24}, "AES-192": {pkcs11.CKK_AES, 24},
		"generic": {pkcs11.CKK_GENERIC_SECRET, 20}, "HMAC": {pkcs11.CKK_SHA256_HMAC, 32},
	} {
		secret(label, c.keyType, c.size, pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
			pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(label)), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true))
		do(t, tok, func(s *token.Session) error {
			_, info, err := s.FindSecret(label)
			if info.KeyType != c.keyType || info.Length != c.size || string(info.ID) != label ||
				!info.Extractable || info.Sensitive || !info.Verify || !info.Encrypt || info.Local {
				t.Errorf("%s: %+v", label, info)
			}
			return err
		})
	}
	secret("twice", pkcs11.CKK_AES, 16)
	secret("twice", pkcs11.CKK_AES, 32)
	do(t, tok, func(s *token.Session) error {
		if _, _, err := s.FindSecret("twice"); err == nil || errors.Is(err, token.ErrNoObject) {
			t.Errorf("two keys of one label: %v", err)
		}
		if err := s.DestroyMaster("twice"); err == nil || errors.Is(err, token.ErrNoObject) {
			t.Errorf("one of two keys was destroyed: %v", err)
		}
		return nil
	})
}

// TestForeignData: what another program puts on the token is neither found nor destroyed,
// and what is too large is not read.
func TestForeignData(t *testing.T) {
	fresh := tokentest.SoftHSM(t)
	tok := fresh.Open(t, 1)
	o := otherProgram(t, fresh)
	data := func(label, application string, private bool, size int) {
		o.create(
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, private),
			pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, application),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, make([]byte, size)))
	}
	data("other", "another", true, 1)
	data("other", "keyd", false, 1)
	data("large", "keyd", true, token.MaxData+1)
	do(t, tok, func(s *token.Session) error {
		if list, err := s.FindData("other"); err != nil || len(list) != 0 {
			t.Errorf("found %d objects of others, %v", len(list), err)
		}
		if _, err := s.FindData("large"); err == nil {
			t.Error("read more than keyd puts into an object")
		}
		for _, application := range []string{"another", "keyd"} {
			object, err := s.Find(pkcs11.NewAttribute(pkcs11.CKA_LABEL, "other"), pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, application))
			if err != nil {
				return err
			}
			if s.DestroyData(object) == nil {
				t.Errorf("an object of application %q was destroyed", application)
			}
		}
		return nil
	})
}

func do(t *testing.T, tok *token.Token, f func(*token.Session) error) {
	t.Helper()
	if err := tok.Do(f); err != nil {
		t.Fatal(err)
	}
}

func find(tok *token.Token, label string) (p token.Pair, err error) {
	err = tok.Do(func(s *token.Session) error { p, err = s.FindPair(label); return err })
	return p, err
}
