// Package pinops carries out PIN operations inside the boundary: it decides what may
// ever be done with a PIN block, whoever asks, and does it.
//
// Rules, in the order in which they are checked: the sealed keys are genuine and
// valid now; the key serial number fits the key; usage, mode of use, direction and
// algorithm fit what is asked; the translation matrix of ISO 9564-1 and PCI PIN 3-3
// and the keys' peer groups allow it; the block is one; the account's tries are not used
// up. What is clear exists only in the locked memory of the session that the operation
// uses, and is wiped when it ends.
//
// Operations are carried out in batches: every step is taken for all of them before the
// next one is, so that the token is called once for what goes the same way under the same
// key. None can see or hold up another but by the time that it takes.
//
// Only hsm/module uses it.
package pinops

import (
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/working"
)

// role is what a key is to do for an operation.
type role struct {
	direction func(*hsm.Header) bool
	modes     string // modes of use (X9.143) that allow it, for a key that is no BDK
	refusal   string // what is wrong if none fits
}

var (
	deciphers = role{(*hsm.Header).Incoming, "BDN", "the incoming key may not decipher PIN blocks"}
	enciphers = role{(*hsm.Header).Outgoing, "BEN", "the outgoing key may not encipher PIN blocks"}
)

// checkKSN refuses a key serial number of the other scheme.
func checkKSN(h *hsm.Header, k *hsm.PINKey) error {
	if k == nil {
		return nil
	}
	return working.CheckKSN(h, k.KSN)
}

// checkPINKey decides whether a key may encipher or decipher PIN blocks the way that
// is asked for: X9.143 usage and mode of use, which PINs it carries, direction, format against
// algorithm. records says that they are those of PIN records.
func checkPINKey(h *hsm.Header, k *hsm.PINKey, r role, records bool) error {
	if k == nil {
		return nil
	}
	mismatch := func(detail string) error { return fault.New(fault.KeyUsageMismatch, detail) }
	if h.Usage != "P0" && h.Usage != "B0" {
		return mismatch("a " + h.Usage + " key does not encipher PIN blocks")
	}
	if h.CarriesRecords() != records {
		if records {
			return mismatch("the key does not carry PINs of PIN records: officers make one with pin_kind record")
		}
		return mismatch("the key carries PINs of PIN records, which are compared with their record and nothing else")
	}
	algorithm := h.Algorithm
	isBDK, err := working.CheckBDK(h, k.KSN)
	switch {
	case err != nil:
	case isBDK:
		algorithm, err = working.Algorithm(h, k.WorkingType)
	default:
		err = working.CheckMode(h, r.modes, r.refusal)
	}
	switch {
	case err != nil:
		return err
	case !r.direction(h):
		return mismatch(r.refusal + ": direction " + h.Direction)
	case (algorithm == "A") != (k.Format == hsm.Format4):
		return mismatch("AES keys carry ISO format 4 only, TDES keys never")
	case k.Format != hsm.Format2 && !h.Carries(k.Format):
		return mismatch("the key does not carry " + k.Format.String())
	}
	return nil
}

// checkTranslation is the matrix: ISO 9564-1:2017 table of permitted translations,
// PCI PIN requirement 3-3. The PAN is the same on both sides by construction.
func checkTranslation(in, out hsm.Format) error {
	switch {
	case in == hsm.Format2 || out == hsm.Format2:
		return fault.New(fault.TranslationForbidden, "ISO format 2 does not leave a terminal")
	case out == hsm.Format1 && in != hsm.Format1:
		return fault.New(fault.TranslationForbidden, "a block that is bound to a PAN does not become ISO format 1")
	}
	return nil
}

// checkBound refuses formats in which no PIN is verified, generated or changed.
func checkBound(f hsm.Format) error {
	switch f {
	case hsm.Format1, hsm.Format2:
		return fault.New(fault.TranslationForbidden, "a PIN is verified, generated and changed in ISO formats 0, 3 and 4 only")
	}
	return nil
}

// checkPeers refuses keys that share no peer group.
func checkPeers(in, out *hsm.Header) error {
	if !in.SharesPeers(out) {
		return fault.New(fault.TranslationForbidden, "the keys share no peer group")
	}
	return nil
}
