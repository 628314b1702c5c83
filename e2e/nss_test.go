package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// startNSS runs keyd dev on a token of NSS softokn.
func startNSS(t *testing.T, keys ...testKey) *service {
	t.Helper()
	return startWith(t, filepath.Join(tempDir(t), "dev"), []string{"--token", "nss"}, keys...)
}

// TestPublishedVectorsOnNSS is [TestPublishedVectors] and [TestPublishedMACs] with the same
// service on another token. What NSS softokn cannot do, CMACs with TDES keys, is refused;
// what SoftHSM cannot do, HMACs with short keys, has the published result.
func TestPublishedVectorsOnNSS(t *testing.T) {
	ring := newKeyring()
	var attempts []attempt
	attempts = append(attempts, dukptTDES(t, ring)...)
	attempts = append(attempts, dukptAES(t, ring)...)
	attempts = append(attempts, blocks(t, ring)...)
	attempts = append(attempts, verifications(t, ring)...)
	attempts = append(attempts, translations(t, ring)...)
	macAttempts := append(staticMACs(t, ring), dukptMACs(t, ring)...)
	refused, short := 0, 0
	for i := range macAttempts {
		a := &macAttempts[i]
		static := a.key.Dukpt == nil && a.key.Algorithm == keydv1.MacKey_CMAC && ring.find(a.key.KeyId).Algorithm == "T"
		switch {
		case static:
			a.refused = "KEY_USAGE_MISMATCH"
			refused++
		case a.key.Algorithm == keydv1.MacKey_HMAC_SHA256 && a.refused != "":
			a.refused = ""
			short++
		}
	}
	if refused == 0 || short == 0 {
		t.Fatalf("%d CMACs with TDES keys, %d HMACs with short keys", refused, short)
	}
	s := startNSS(t, ring.keys...)
	pins, macs := s.pins(), s.macs()
	for _, a := range attempts {
		t.Run(a.id, func(t *testing.T) { a.call(t, pins) })
	}
	for _, a := range macAttempts {
		t.Run(a.id, func(t *testing.T) { a.run(t, macs) })
	}
	status := s.status()
	if len(status.Tokens) != 2 {
		t.Fatalf("%d modules", len(status.Tokens))
	}
	for _, token := range status.Tokens {
		states := map[string]string{}
		for _, p := range token.Probes {
			states[p.Name] = p.State
		}
		if !strings.Contains(token.Model, "NSS") || states["TDES-CMAC"] != "off" || states["AES-CMAC"] != "on" || states["keys that are not extractable stay inside"] != "off" {
			t.Errorf("module %d: %s, %v", token.Module, token.Model, states)
		}
		for _, failed := range token.Errors {
			// Each refused CMAC is a call that NSS refuses, of class bug.
			if failed.Count > 0 && failed.Class != "bug" {
				t.Errorf("module %d: %d failed calls of class %s", token.Module, failed.Count, failed.Class)
			}
		}
	}
	t.Logf("%d attempts, %d of them refused for want of TDES-CMAC, %d HMACs with short keys", len(attempts)+len(macAttempts), refused, short)
}

// TestWhatOfficersDidSurvivesOnNSS: officers make a key, all modules know it at once, and it is
// there after the service and all its processes were killed.
func TestWhatOfficersDidSurvivesOnNSS(t *testing.T) {
	s := startNSS(t)
	one, two := newSeat(t, s, 1), newSeat(t, s, 2)
	opened := one.begin(written(t, "kind: create\nkey: {name: made-on-nss, usage: D0, algorithm: A, length: 16, mode_of_use: B, direction: both, data_modes: [CBC]}\n"))
	if _, err := one.approve(opened); err != nil {
		t.Fatal(err)
	}
	if done, err := two.approve(opened); err != nil || done.State != keydv1.Ceremony_COMPLETED {
		t.Fatalf("%v, %v", done, err)
	}
	version := func(s *service) uint64 {
		t.Helper()
		var tokens []*keydv1.Token
		waitUntil(t, "both modules serve", func() bool { tokens = s.status().Tokens; return len(tokens) == 2 })
		if tokens[0].EpochPinned != tokens[1].EpochPinned || tokens[1].EpochLoaded != tokens[1].EpochPinned || tokens[0].EpochLoaded != tokens[0].EpochPinned {
			t.Fatalf("the register of the modules: %v", tokens)
		}
		return tokens[0].EpochPinned
	}
	enciphered := func(s *service) {
		t.Helper()
		for range 8 { // both modules have their turn
			if _, err := s.data().EncryptData(t.Context(), &keydv1.EncryptDataRequest{
				Key: &keydv1.DataKey{KeyId: "made-on-nss", Mode: keydv1.DataKey_CBC}, Plaintext: make([]byte, 16), InitializationVector: make([]byte, 16)}); err != nil {
				t.Fatalf("%v: %s", err, reason(err))
			}
		}
	}
	before := version(s)
	enciphered(s)
	for _, p := range append(processes(s.status(), "module"), processes(s.status(), "front")...) {
		kill(p)
	}
	s.stop()
	s = s.again()
	if after := version(s); after != before || after < 2 {
		t.Errorf("the register is version %d, before it was %d", after, before)
	}
	enciphered(s)
}

// TestADirectoryKeepsItsToken: keyd dev refuses another token for a directory than the one it
// has, and takes that one without being told.
func TestADirectoryKeepsItsToken(t *testing.T) {
	nss := startNSS(t)
	nss.stop()
	nss = nss.again()
	if model := nss.status().Tokens[0].Model; !strings.Contains(model, "NSS") {
		t.Errorf("the token is %s", model)
	}
	nss.stop()
	// One whose token is lost gets another of the kind, with the sample keys.
	for _, name := range []string{"key4.db", "cert9.db"} {
		if err := os.Remove(filepath.Join(nss.dir, "token", "nss", name)); err != nil {
			t.Fatal(err)
		}
	}
	nss = nss.again()
	if status := nss.status(); !strings.Contains(status.Tokens[0].Model, "NSS") || status.Keys != samples {
		t.Errorf("after the token was lost: %d keys on %s", status.Keys, status.Tokens[0].Model)
	}
	nss.stop()
	plain := start(t)
	plain.stop()
	for _, c := range []struct{ dir, token, want string }{
		{nss.dir, "softhsm", "has a token of nss"},
		{plain.dir, "nss", "has a token of softhsm"},
		{filepath.Join(tempDir(t), "dev"), "hsm", "there are softhsm and nss"},
	} {
		out, err := exec.Command(keydBinary, "dev", "--dir", c.dir, "--listen", "127.0.0.1:0", "--token", c.token).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("--token %s: %v\n%s", c.token, err, out)
		}
	}
	// A directory from before there was a choice has SoftHSM.
	if err := os.Remove(filepath.Join(plain.dir, "token.kind")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(keydBinary, "dev", "--dir", plain.dir, "--listen", "127.0.0.1:0", "--token", "nss").CombinedOutput(); err == nil || !strings.Contains(string(out), "has a token of softhsm") {
		t.Errorf("a directory that does not say: %v\n%s", err, out)
	}
}
