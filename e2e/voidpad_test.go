package e2e

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
	keysoftware "keyd/keyblock/software"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// sampled are sample keys of a development service whose values terminals need here.
var sampled = &keyring{keys: []testKey{
	{Name: "bdk-supervisor", Algorithm: "A", Value: "5D1C8E3F7A2B49606E0F3B9D7C5A1824"},
	{Name: "bdk-aes", Algorithm: "A", Value: "FEDCBA9876543210F1F1F1F1F1F1F1F1"},
}}

// entry is what the device sends at a counter.
func (d *terminal) entry(counter uint32) *keydv1.PinEntry {
	d.t.Helper()
	in, block := d.block(counter)
	return &keydv1.PinEntry{Incoming: in, EncryptedPinBlock: block}
}

// bound is what the device sends at a counter for a void, with a CMAC under the same key serial
// number. Whose PIN it is remains to be said.
func (d *terminal) bound(counter uint32, digest [sha256.Size]byte) *keydv1.VoidPinEntry {
	d.t.Helper()
	e := d.entry(counter)
	ksn, err := d.ksn.WithCounter(counter)
	if err != nil {
		d.t.Fatal(err)
	}
	key, algorithm := make([]byte, 16), byte('A')
	if d.scheme == dukpt.TDES {
		algorithm = 'T'
		if err = software.TDESTransactionKey(key, d.initial, ksn); err == nil {
			err = software.TDESWorkingKey(key, key, dukpt.VariantMACRequest)
		}
	} else {
		var path dukpt.Path
		if path, err = dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsageMACGeneration, dukpt.AES128); err == nil {
			err = software.AESDerive(key, d.initial, path.FromInitialKey())
		}
	}
	if err != nil {
		d.t.Fatal(err)
	}
	c, err := keysoftware.Cipher(algorithm, key)
	if err != nil {
		d.t.Fatal(err)
	}
	return &keydv1.VoidPinEntry{
		Incoming: e.Incoming, EncryptedPinBlock: e.EncryptedPinBlock, Mac: keysoftware.CMAC(c, pinrecord.Bound(digest, e.EncryptedPinBlock, true)),
		MacKey: &keydv1.MacKey{KeyId: d.bdk, Algorithm: keydv1.MacKey_CMAC, Dukpt: e.Incoming.Dukpt, Direction: keydv1.MacKey_REQUEST},
	}
}

// supervisorOf is a supervisor of merchant m-17.
func supervisorOf(name string) pinrecord.Subject {
	return pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: name}
}

// named is a subject as requests have it.
func named(s pinrecord.Subject) *keydv1.PinSubject {
	return &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: s.Merchant, Terminal: s.Terminal, Name: s.Name}
}

// padOf is device number n, at which a supervisor types a PIN.
func padOf(t testing.TB, s pinrecord.Subject, pin string, n uint32) *terminal {
	t.Helper()
	d := newTerminal(t, sampled, "bdk-supervisor", n)
	d.pin, d.pan = pin, s.Number()
	return d
}

// whose is what a supervisor has typed.
func whose(s pinrecord.Subject, e *keydv1.VoidPinEntry) *keydv1.VoidPinEntry {
	e.Whose = &keydv1.VoidPinEntry_Supervisor{Supervisor: named(s)}
	return e
}

// fieldsOf are the fields of a void at terminal t-1 of merchant m-17.
func fieldsOf(id, reference string, amount int64) voidtoken.Fields {
	return voidtoken.Fields{Void: id, Merchant: "m-17", Terminal: "t-1", Reference: reference, Amount: amount, Currency: voidtoken.CNY}
}

func digestFor(t testing.TB, f voidtoken.Fields) [sha256.Size]byte {
	t.Helper()
	digest, err := f.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// paid is what the switch says of a payment that can be voided.
func paid(amount int64) *keydv1.PaymentFacts {
	no := false
	return &keydv1.PaymentFacts{Merchant: "m-17", Amount: amount, Currency: int32(voidtoken.CNY), PaidAt: timestamppb.Now(), Settled: &no, Voided: &no}
}

// authorization asks for a void's authorisation.
func authorization(id, request string, amount int64, entries ...*keydv1.VoidPinEntry) *keydv1.AuthorizeVoidRequest {
	return &keydv1.AuthorizeVoidRequest{RequestId: request, VoidId: id, Pins: entries, Payment: paid(amount)}
}

// voidKeys are the keys with which a switch checks tokens.
func (c *counter) voidKeys() voidtoken.Keys {
	c.t.Helper()
	known, err := voidtoken.ParseKeys(c.read(c.file("voids", "void-tokens.pem")))
	if err != nil {
		c.t.Fatal(fmt.Errorf("public keys of void tokens: %w", err))
	}
	return known
}
