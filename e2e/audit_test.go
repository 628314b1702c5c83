package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/checkpoint"
)

// verifyLog has the audit log verified as it is.
func (s *service) verifyLog(flags ...string) (good bool, entries, checkpoints int) {
	s.t.Helper()
	out, err := s.command("", append([]string{"audit", "verify", "--dir", s.dir, "-o", "json"}, flags...)...)
	var report struct {
		Good        bool `json:"good"`
		Entries     int  `json:"entries"`
		Checkpoints int  `json:"checkpoints"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &report)
	}
	if err != nil {
		s.t.Fatalf("the log does not verify: %v\n%s", err, out)
	}
	return report.Good, report.Entries, report.Checkpoints
}

// must runs a command that succeeds.
func (s *service) must(args ...string) string {
	s.t.Helper()
	out, err := s.command("", args...)
	if err != nil {
		s.t.Fatalf("keyd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// TestAuditLog: what an auditor does with the log of a service, beside it and over the network.
func TestAuditLog(t *testing.T) {
	dir := tempDir(t)
	s := startIn(t, filepath.Join(dir, "dev"), newKeyring().keys...)
	if _, err := translated(t, s); err != nil {
		t.Fatal(err)
	}
	log := s.file("front", "audit")
	module := filepath.Join(log, "module.pem")
	remote := []string{"--server", s.address, "--ca", s.file("certs", "ca.crt"), "--cert", s.file("certs", "auditor.crt"), "--key", s.file("certs", "auditor.key")}

	noted := filepath.Join(dir, "noted.txt")
	s.must(append([]string{"audit", "checkpoint", "--identity", module, "--out", noted}, remote...)...)
	for _, args := range [][]string{
		{"--who", "switch", "--decision", "allowed"}, {"--method", "TranslatePinData"}, {"--key", "bdk-tdes", "--since", "2026-01-01"},
	} {
		if out := s.must(append([]string{"audit", "show", "--dir", s.dir}, args...)...); strings.Count(out, "PinService/TranslatePinData") != 1 {
			t.Errorf("%s:\n%s", args, out)
		}
	}
	if out := s.must(append([]string{"audit", "tail", "-n", "50", "-o", "json"}, remote...)...); strings.Count(out, `"method":"PinService/TranslatePinData"`) != 1 || !strings.Contains(out, `"AuditService/GetCheckpoint"`) {
		t.Errorf("%s", out)
	}

	// Only who the policy says may see it.
	if _, err := keydv1.NewAuditServiceClient(s.connect(s.tls("switch"))).ListEntries(s.ctx(), &keydv1.ListEntriesRequest{}); reason(err) != "POLICY_DENIED" {
		t.Errorf("a switch: %v", err)
	}
	auditor := keydv1.NewAuditServiceClient(s.connect(s.tls("auditor")))
	for name, call := range map[string]func() error{
		"too much": func() error {
			_, err := auditor.ListEntries(s.ctx(), &keydv1.ListEntriesRequest{MaxResults: 1001})
			return err
		},
		"entry 0": func() error {
			_, err := auditor.GetInclusionProof(s.ctx(), &keydv1.GetInclusionProofRequest{})
			return err
		},
		"what is not there": func() error {
			_, err := auditor.GetInclusionProof(s.ctx(), &keydv1.GetInclusionProofRequest{Seq: 1 << 40, Size: 1 << 41})
			return err
		},
		"from nothing": func() error {
			_, err := auditor.GetConsistencyProof(s.ctx(), &keydv1.GetConsistencyProofRequest{})
			return err
		},
		"backwards": func() error {
			_, err := auditor.GetConsistencyProof(s.ctx(), &keydv1.GetConsistencyProofRequest{From: 3, To: 2})
			return err
		},
	} {
		if err := call(); reason(err) != "REQUEST_INVALID" {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer, err := auditor.GetInclusionProof(s.ctx(), &keydv1.GetInclusionProofRequest{Seq: 2})
	if err != nil {
		t.Fatal(err)
	}
	newest, err := auditor.GetCheckpoint(s.ctx(), &keydv1.GetCheckpointRequest{})
	if err != nil {
		t.Fatal(err)
	}
	point, err := checkpoint.Parse([]byte(newest.Checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	var proof []checkpoint.Hash
	for _, h := range answer.Proof {
		proof = append(proof, checkpoint.Hash(h))
	}
	if err := point.Has(2, []byte(answer.Entry), proof); err != nil || answer.Size != point.Size {
		t.Errorf("entry 2 of %d: %v", answer.Size, err)
	}

	// A clean stop covers everything; the next start goes on, and a module that has forgotten
	// nothing signs it.
	s.stop()
	good, entries, _ := s.verifyLog("--identity", module, "--checkpoint", noted)
	if !good {
		t.Error("not good with the module's key")
	}
	if good, _, _ := s.verifyLog(); good {
		t.Error("good though nobody vouches for the key")
	}
	one := filepath.Join(dir, "one.json")
	s.must("audit", "prove", "--dir", s.dir, "--seq", "1", "--out", one)
	s.must("audit", "verify", "--proof", one, "--identity", module)
	export := filepath.Join(dir, "export")
	s.must("audit", "export", "--dir", s.dir, "--into", export)
	s.must("audit", "verify", "--export", export, "--identity", module)
	if out, err := s.command("", "audit", "verify", "--export", export, "--fingerprint", strings.Repeat("00", 32)); err == nil {
		t.Errorf("another module's key is taken:\n%s", out)
	}
	old := filepath.Join(dir, "old")
	copyTree(t, log, old)

	s = startIn(t, s.dir)
	if _, err := translated(t, s); err != nil {
		t.Fatal(err)
	}
	remote[1] = s.address
	s.must(append([]string{"audit", "checkpoint", "--identity", module, "--after", noted, "--out", filepath.Join(dir, "later.txt")}, remote...)...)
	s.stop()
	later := filepath.Join(dir, "later.txt")
	if _, now, _ := s.verifyLog("--identity", module, "--checkpoint", noted, "--checkpoint", later); now <= entries {
		t.Errorf("%d entries, then %d", entries, now)
	}

	// The log is put back as a whole. Nothing in it tells, but the modules remember.
	present := filepath.Join(dir, "present")
	copyTree(t, log, present)
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, log)
	s.verifyLog("--identity", module)
	if out, err := s.command("", "audit", "verify", "--dir", s.dir, "--checkpoint", later); err == nil {
		t.Errorf("it has what was noted:\n%s", out)
	}
	c := exec.Command(keydBinary, "dev", "--dir", s.dir, "--listen", "127.0.0.1:0")
	out, err := c.CombinedOutput()
	if err == nil || c.ProcessState.ExitCode() != 78 || !bytes.Contains(out, []byte("the newest checkpoint that the modules have signed says")) {
		t.Errorf("keyd starts with a log that was put back: %v\n%s", err, out)
	}
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	copyTree(t, present, log)

	// The modules' memory is gone: they begin anew, and say so.
	if err := os.Remove(s.file("checkpoints")); err != nil {
		t.Fatal(err)
	}
	s = startIn(t, s.dir)
	waitUntil(t, "a checkpoint", func() bool { return s.status().GetAuditLog().GetForgotten() })
	if out := s.must("audit", "show", "--dir", s.dir, "--method", "AuditLog/Checkpoint", "--last", "1"); !strings.Contains(out, "remembered no checkpoint") {
		t.Errorf("%s", out)
	}
	s.stop()
	s.verifyLog("--identity", module, "--checkpoint", noted, "--checkpoint", later)
}

// copyTree copies a directory with modes and owners.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestAnOldLogIsInTheWay: a log of version 1 is not gone on with, and what to do is said.
func TestAnOldLogIsInTheWay(t *testing.T) {
	s := start(t)
	s.stop()
	if err := os.WriteFile(s.file("front", "audit.log"), []byte(`{"v":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(keydBinary, "dev", "--dir", s.dir, "--listen", "127.0.0.1:0")
	out, err := c.CombinedOutput()
	if err == nil || c.ProcessState.ExitCode() != 78 || !bytes.Contains(out, []byte("move it to the archive, and start again")) {
		t.Errorf("%v\n%s", err, out)
	}
}
