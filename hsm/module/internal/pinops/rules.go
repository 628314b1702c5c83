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
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
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
	if h.Usage != "B0" || k.KSN == (dukpt.KSN{}) {
		return nil
	}
	if (k.KSN.Scheme() == dukpt.TDES) != (h.Algorithm == "T") {
		return fault.New(fault.KSNInvalid, "a TDES BDK takes 10 bytes, an AES BDK 12")
	}
	return nil
}

// checkPINKey decides whether a key may encipher or decipher PIN blocks the way that
// is asked for: X9.143 usage and mode of use, direction, format against algorithm.
func checkPINKey(h *hsm.Header, k *hsm.PINKey, r role) error {
	mismatch := func(detail string) error { return fault.New(fault.KeyUsageMismatch, detail) }
	working := h.Algorithm
	switch h.Usage {
	case "P0":
		if k.KSN != (dukpt.KSN{}) {
			return mismatch("dukpt is set, but the key is no BDK")
		}
		if !oneOf(h.Mode, r.modes) {
			return mismatch(r.refusal + ": mode of use " + h.Mode)
		}
	case "B0":
		if k.KSN == (dukpt.KSN{}) {
			return mismatch("the key is a BDK: set dukpt")
		}
		if !oneOf(h.Mode, "XN") {
			return mismatch("the BDK may not derive keys: mode of use " + h.Mode)
		}
		var err error
		if working, err = workingAlgorithm(h, k.WorkingType); err != nil {
			return err
		}
	default:
		return mismatch("a " + h.Usage + " key does not encipher PIN blocks")
	}
	if !r.direction(h) {
		return mismatch(r.refusal + ": direction " + h.Direction)
	}
	if (working == "A") != (k.Format == hsm.Format4) {
		return mismatch("AES keys carry ISO format 4 only, TDES keys never")
	}
	if k.Format != hsm.Format2 && !h.Carries(k.Format) {
		return mismatch("the key does not carry " + k.Format.String())
	}
	return nil
}

// workingAlgorithm returns the algorithm of the working key ("T" or "A") that a BDK
// is asked for. A working key is no stronger than its BDK (X9.24-3 §6.2).
func workingAlgorithm(h *hsm.Header, t hsm.WorkingType) (string, error) {
	if h.Algorithm == "T" {
		if t != hsm.WorkingDefault && t != hsm.WorkingTDES2 {
			return "", fault.New(fault.KeyUsageMismatch, "a TDES BDK has two-key TDES working keys only")
		}
		return "T", nil
	}
	if !workingType(t).NoStrongerThan(bdkType(h)) {
		return "", fault.New(fault.KeyUsageMismatch, "the working key would be stronger than the BDK")
	}
	if workingType(t).IsTDES() {
		return "T", nil
	}
	return "A", nil
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

// checkVerification refuses formats in which no PIN is verified.
func checkVerification(in hsm.Format) error {
	switch in {
	case hsm.Format1, hsm.Format2:
		return fault.New(fault.TranslationForbidden, "a PIN is verified in ISO formats 0, 3 and 4 only")
	}
	return nil
}

// checkPeers refuses a translation between keys that share no peer group.
func checkPeers(in, out *hsm.Header) error {
	if !in.SharesPeers(out) {
		return fault.New(fault.TranslationForbidden, "the keys share no peer group")
	}
	return nil
}

func oneOf(s, set string) bool {
	for i := range len(set) {
		if s == set[i:i+1] {
			return true
		}
	}
	return false
}
