package nsstest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/pinblock"
)

// TestHeldVerificationKey: a verification key that the token held before may encipher, and not wrap. PINs are verified and
// generated with it in the module's memory.
func TestHeldVerificationKey(t *testing.T) {
	f := tokentest.NSS(t)
	b := sealedtest.On(t, f.Open(t, 1))
	const label = "held before"
	hold(t, look(t, f), label)
	engine, held := pinops.NewEngine(b.Keys, nil), b.Held("V2", "T", "C", label, 24)
	for _, s := range pinopstest.Samples(b) {
		for _, demanded := range []bool{false, true} {
			op := s.Operation()
			switch {
			case op.Verify != nil:
				op.Verify.Verification, op.Verify.TokenCustody = held, demanded
			case op.Generate != nil:
				op.Generate.Generation, op.Generate.TokenCustody = held, demanded
			default:
				continue
			}
			engine.Run(op)
			custody := op.Verified.Custody + op.Generated.Custody
			if (op.Err != nil) != demanded || !demanded && custody != hsm.InModule {
				t.Errorf("%s, demanded %v: %v, %v", s.Name, demanded, custody, op.Err)
			}
			if demanded && !strings.Contains(fmt.Sprint(op.Err), "may not wrap") {
				t.Errorf("%s: %v", s.Name, op.Err)
			}
		}
	}
}

// hold puts a TDES key on the token that enciphers and does nothing else.
func hold(t *testing.T, o *onlooker, label string) {
	t.Helper()
	attributes := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DES3),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(label)),
	}
	for kind, set := range map[uint]bool{
		pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true, pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_MODIFIABLE: false,
		pkcs11.CKA_ENCRYPT: true, pkcs11.CKA_DECRYPT: false, pkcs11.CKA_SIGN: false, pkcs11.CKA_VERIFY: false, pkcs11.CKA_DERIVE: false, pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false,
	} {
		attributes = append(attributes, pkcs11.NewAttribute(kind, set))
	}
	if _, err := o.ctx.GenerateKey(o.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_DES3_KEY_GEN, nil)}, attributes); err != nil {
		t.Fatal(err)
	}
}

// TestBesideRecords: a PIN that is compared beside one of a PIN record is in the module's memory, also where it could
// stay in the token alone, and a refusal says why.
func TestBesideRecords(t *testing.T) {
	b := sealedtest.On(t, open(t))
	engine := pinops.NewEngine(b.Keys, nil)
	for _, s := range pinopstest.Samples(b) {
		op := s.Operation()
		if op.Verify == nil {
			continue
		}
		for _, demanded := range []bool{false, true} {
			try := &pinops.Try{VerifyPIN: *op.Verify}
			try.TokenCustody = demanded
			err := b.Token.Do(func(s *token.Session) error {
				return engine.Open(s, nil, []*pinops.Try{try}, func() error { return nil }, func([]*pinblock.PIN, []byte) error { return nil })
			})
			if demanded && (fault.Of(err).Reason != fault.CustodyUnavailable || !strings.Contains(err.Error(), "PIN record")) || !demanded && err != nil {
				t.Errorf("%s, demanded %v: %v", s.Name, demanded, err)
			}
		}
	}
}
