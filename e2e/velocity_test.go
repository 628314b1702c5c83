package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// tries is an issuer's view of one account.
type tries struct {
	s    *service
	pins keydv1.PinServiceClient
	in   *keydv1.PinKey
	pvk  string
}

// verify asks about PIN 1234 with a verification value, and returns what came of it.
func (a tries) verify(pan string, index int32, pvv string) string {
	a.s.t.Helper()
	answer, err := a.pins.VerifyPinData(a.s.ctx(), &keydv1.VerifyPinDataRequest{
		Incoming: a.in, VerificationKeyId: a.pvk, PrimaryAccountNumber: pan,
		EncryptedPinBlock: encrypt(tdes(a.s.t, unhex(a.s.t, zoneTDES)), iso0(a.s.t, "0", "1234", "F", pan)),
		Expected:          &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: index, Pvv: pvv}}},
	})
	if status.Code(err) == codes.Unavailable {
		return "UNAVAILABLE"
	}
	if err == nil && answer.Verified {
		return "true"
	}
	if err == nil {
		return "false"
	}
	return reason(err)
}

const (
	triedPAN = "5432101234567890"
	rightPVV = "6776" // of PIN 1234 with PVKI 1
)

// TestTriesAreLimited uses up an account's tries, sees that no way around the limit
// leads past it, that it survives every process, and that it takes two to reset it.
func TestTriesAreLimited(t *testing.T) {
	ring := newKeyring()
	pvk := ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	in := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	dir := filepath.Join(tempDir(t), "dev")
	flags := []string{"--verify-limits", "5,5,5", "--translate-limits", "4,4,4"}
	s := startWith(t, dir, flags, ring.keys...)
	a := tries{s, s.pins(), in, pvk}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("the right value", a.verify(triedPAN, 1, rightPVV), "true")
	expect("a wrong value", a.verify(triedPAN, 1, "0000"), "false")
	expect("another key index", a.verify(triedPAN, 2, "0000"), "false")
	expect("digits that do not enter the comparison", a.verify("99"+triedPAN, 1, "0000"), "false")
	expect("another check digit", a.verify(triedPAN[:15]+"1", 1, rightPVV), "true")
	// Five, whatever the label: used up.
	for _, pan := range []string{triedPAN, "99" + triedPAN, triedPAN[:15] + "1"} {
		for index := range int32(3) {
			expect("beyond the limit", a.verify(pan, index, rightPVV), "RATE_LIMITED")
		}
	}
	expect("another account", a.verify("5432101234567809", 1, "0000"), "false")

	translate := func() string {
		_, err := a.pins.TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{
			Incoming: in, Outgoing: in, PrimaryAccountNumber: triedPAN,
			EncryptedPinBlock: encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "1234", "F", triedPAN)),
		})
		return reason(err)
	}
	for range 4 {
		expect("a translation", translate(), "OK")
	}
	expect("a translation beyond the limit", translate(), "RATE_LIMITED")

	// Every process dies, keyd too, and the limit holds.
	for _, p := range s.status().Processes {
		kill(p)
	}
	var got string
	waitUntil(t, "service after every process was killed", func() bool { got = a.verify(triedPAN, 1, rightPVV); return got != "UNAVAILABLE" })
	expect("after every process was killed", got, "RATE_LIMITED")
	s.stop()
	// A permit can be given while keyd is stopped.
	if _, err := s.command(triedPAN, "velocity", "permit", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	s = startWith(t, dir, flags)
	a.s, a.pins = s, s.pins()
	expect("after a restart", a.verify(triedPAN, 1, rightPVV), "RATE_LIMITED")
	if _, err := s.command(triedPAN, "velocity", "reset", "--dir", dir, "--verification-key", pvk); err != nil {
		t.Errorf("a permit that was given while keyd was stopped: %v", err)
	}
	for range 5 {
		expect("after that reset", a.verify(triedPAN, 1, rightPVV), "true")
	}

	// The way back takes somebody at the machine and an officer, and serves once.
	reset := func(as string, more ...string) string {
		_, err := s.command(triedPAN, append([]string{"velocity", "reset", "--dir", dir, "--as", as}, more...)...)
		if err == nil {
			return "reset"
		}
		for _, reason := range []string{"PERMIT_MISSING", "POLICY_DENIED"} {
			if strings.Contains(err.Error(), reason) {
				return reason
			}
		}
		return err.Error()
	}
	expect("an officer alone", reset("officer-1", "--verification-key", pvk), "PERMIT_MISSING")
	if out, err := s.command(triedPAN, "velocity", "permit", "--dir", dir, "--valid", "10m"); err != nil || strings.Contains(out, triedPAN) {
		t.Fatalf("permit: %q, %v", out, err)
	}
	expect("a permit alone", a.verify(triedPAN, 1, rightPVV), "RATE_LIMITED")
	expect("the switch, with a permit", reset("switch", "--verification-key", pvk), "POLICY_DENIED")
	expect("a permit for verifications, used for translations", reset("officer-1", "--translations"), "PERMIT_MISSING")
	expect("both", reset("officer-1", "--verification-key", pvk), "reset")
	expect("a permit again", reset("officer-1", "--verification-key", pvk), "PERMIT_MISSING")
	for range 5 {
		expect("after the reset", a.verify(triedPAN, 1, rightPVV), "true")
	}
	expect("after the reset, beyond the limit", a.verify(triedPAN, 1, rightPVV), "RATE_LIMITED")
	expect("translations were not reset", translate(), "RATE_LIMITED")
	if _, err := s.command(triedPAN, "velocity", "permit", "--dir", dir, "--translations"); err != nil {
		t.Fatal(err)
	}
	expect("translations", reset("officer-2", "--translations"), "reset")
	expect("a translation after the reset", translate(), "OK")

	// Every step is in the audit log, without the account.
	out, err := s.command("", "audit", "show", "--dir", dir, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"VelocityService/ResetVerifications", "VelocityService/ResetTranslations", "PERMIT_MISSING", "RATE_LIMITED"} {
		if !strings.Contains(out, want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
	if strings.Contains(out, triedPAN) || strings.Contains(s.logged(), triedPAN) {
		t.Error("an account number is in the audit log or the log")
	}
}

// TestReplaysCostNoTries: neither a replay nor an identical retry uses up a customer's
// tries, and a retry is answered although they are used up.
func TestReplaysCostNoTries(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	pvk := ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	s := startWith(t, filepath.Join(tempDir(t), "dev"), []string{"--verify-limits", "3,3,3"}, ring.keys...)
	pins := s.pins()
	d := newTerminal(t, ring, bdk, 1)
	verify := func(counter uint32, pvv string) string {
		t.Helper()
		in, block := d.block(counter)
		answer, err := pins.VerifyPinData(s.ctx(), &keydv1.VerifyPinDataRequest{
			Incoming: in, VerificationKeyId: pvk, PrimaryAccountNumber: d.pan, EncryptedPinBlock: block,
			Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: pvv}}},
		})
		if err == nil && !answer.Verified {
			return "false"
		}
		return reason(err)
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("first", verify(10, "0000"), "false")
	for range 10 {
		expect("a retry", verify(10, "0000"), "false")
		expect("a replay", verify(10, "0001"), "KSN_REPLAYED")
		expect("an older one", verify(9, "0000"), "KSN_REPLAYED")
	}
	expect("second", verify(11, "0000"), "false")
	expect("third", verify(12, "0000"), "false")
	expect("fourth", verify(13, "0000"), "RATE_LIMITED")
	expect("a retry when the tries are used up", verify(12, "0000"), "false")
	expect("a replay when they are", verify(12, "0001"), "KSN_REPLAYED")
}
