package e2e

import (
	"crypto/cipher"
	"encoding/binary"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
)

// terminal is a device under a BDK that makes blocks of one PIN and one account for any
// of its counters.
type terminal struct {
	t       testing.TB
	bdk     string // key name
	pin     string
	pan     string
	scheme  dukpt.Scheme
	initial []byte
	ksn     dukpt.KSN // at counter 0
	iso3    bool      // blocks of format 3 in place of 0
}

// newTerminal is device number n under a BDK.
func newTerminal(t testing.TB, ring *keyring, bdk string, n uint32) *terminal {
	t.Helper()
	value := unhex(t, ring.find(bdk).Value)
	d := &terminal{t: t, bdk: bdk, pin: "1234", pan: "4012345678909"}
	raw := make([]byte, dukpt.TDESKSNSize)
	binary.BigEndian.PutUint32(raw[2:], n)
	if ring.find(bdk).Algorithm == "A" {
		raw = make([]byte, dukpt.AESKSNSize)
		binary.BigEndian.PutUint32(raw[4:], n)
	}
	var err error
	if d.ksn, err = dukpt.ParseInitialKSN(raw); err != nil {
		t.Fatal(err)
	}
	d.scheme, d.initial = d.ksn.Scheme(), make([]byte, 16)
	if d.scheme == dukpt.TDES {
		err = software.TDESInitialKey(d.initial, value, d.ksn)
	} else {
		var path dukpt.Path
		if path, err = dukpt.NewInitialKeyPath(d.ksn, dukpt.AES128); err == nil {
			err = software.AESDerive(d.initial, value, path)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// block is what the device sends at a counter.
func (d *terminal) block(counter uint32) (*keydv1.PinKey, []byte) {
	d.t.Helper()
	ksn, err := d.ksn.WithCounter(counter)
	if err != nil {
		d.t.Fatal(err)
	}
	key := make([]byte, 16)
	if d.scheme == dukpt.TDES {
		if err = software.TDESTransactionKey(key, d.initial, ksn); err == nil {
			err = software.TDESWorkingKey(key, key, dukpt.VariantPIN)
		}
	} else {
		var path dukpt.Path
		if path, err = dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128); err == nil {
			err = software.AESDerive(key, d.initial, path.FromInitialKey())
		}
	}
	if err != nil {
		d.t.Fatal(err)
	}
	in := &keydv1.PinKey{KeyId: d.bdk, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: ksn.Bytes()}, Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	if d.scheme == dukpt.AES {
		in.Format = keydv1.PinBlockFormat_ISO_FORMAT_4
		return in, seal4(d.t, key, d.pin, d.pan)
	}
	if d.iso3 {
		in.Format = keydv1.PinBlockFormat_ISO_FORMAT_3
		return in, encrypt(tdes(d.t, key), iso0(d.t, "3", d.pin, "C", d.pan))
	}
	return in, encrypt(tdes(d.t, key), iso0(d.t, "0", d.pin, "F", d.pan))
}

// translation asks for the block at a counter under another key.
func (d *terminal) translation(counter uint32, out *keydv1.PinKey) *keydv1.TranslatePinDataRequest {
	d.t.Helper()
	in, block := d.block(counter)
	return &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out, PrimaryAccountNumber: d.pan, EncryptedPinBlock: block}
}

// opens reports whether a block of format 3 under a zone key holds the device's PIN.
func (d *terminal) opens(zone cipher.Block, block []byte) bool {
	if len(block) != 8 {
		return false
	}
	clear := make([]byte, 8)
	zone.Decrypt(clear, block)
	want := iso0(d.t, "3", d.pin, "A", d.pan)
	return clear[0] == want[0] && clear[1] == want[1] && clear[2] == want[2]
}
