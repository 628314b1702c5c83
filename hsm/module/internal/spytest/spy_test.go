// Package spytest watches what crosses the PKCS#11 interface, with OpenSC's
// pkcs11-spy between keyd and SoftHSM. It is a package of its own because a process
// loads one library.
package spytest

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/working"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// spyLibrary finds pkcs11-spy (Debian: opensc-pkcs11).
func spyLibrary(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/pkcs11-spy.so")
	if err != nil || len(found) == 0 {
		t.Fatal("pkcs11-spy.so is missing: apt-get install opensc-pkcs11")
	}
	return found[0]
}

// TestNoDerivedOrUnsealedKeyCrosses derives AES DUKPT keys and unseals keys under the
// spy: neither the unsealed keys nor any key of the derivation is in what was recorded.
func TestNoDerivedOrUnsealedKeyCrosses(t *testing.T) {
	record := filepath.Join(t.TempDir(), "spy.log")
	t.Setenv("PKCS11SPY", tokentest.SoftHSMPath)
	t.Setenv("PKCS11SPY_OUTPUT", record)
	tok := tokentest.SoftHSMThrough(t, spyLibrary(t)).Open(t, 1)

	bdk, zone := unhex(t, "FEDCBA9876543210F1F1F1F1F1F1F1F1"), unhex(t, "8A1B2C3D4E5F60718293A4B5C6D7E8F9")
	var masters *sealing.Masters
	var sealedBDK, sealedZone []byte
	err := tok.Do(func(s *token.Session) (err error) {
		if err = sealing.CreateMasters(s, 1); err != nil {
			return err
		}
		if masters, err = sealing.FindMasters(s, 1); err != nil {
			return err
		}
		if sealedBDK, err = masters.Seal(s, header("bdk", "B0", "X"), bdk); err != nil {
			return err
		}
		sealedZone, err = masters.Seal(s, header("zone", "P0", "E"), zone)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Sealing brings the clear key in: this shows that the spy sees it, and how.
	if before := recorded(t, record); !bytes.Contains(before, bdk) || !bytes.Contains(before, zone) {
		t.Fatal("the record does not show what crosses: the test would prove nothing")
	}
	from := len(read(t, record))

	ksn, err := dukpt.ParseKSN(unhex(t, "123456789012345600000007"))
	if err != nil {
		t.Fatal(err)
	}
	engine := pinops.NewEngine(working.New(tok, sealing.NewCache(tok, sealing.NewSet(masters), 8), 8, sealedtest.Unregistered(time.Now)), nil)
	op := pinops.Operation{Translate: &hsm.TranslatePIN{
		Incoming: hsm.PINKey{Key: hsm.Key{Name: "bdk", Sealed: sealedBDK}, KSN: ksn, Format: 4},
		Outgoing: hsm.PINKey{Key: hsm.Key{Name: "zone", Sealed: sealedZone}, Format: 4},
		PAN:      "4111111111111111", Block: block4(t, workingKey(t, bdk, ksn)),
	}}
	engine.Run(&op)
	if op.Err != nil {
		t.Fatal(op.Err)
	}
	text := read(t, record)[from:]
	crossed := dumps(text)
	if !bytes.Contains(crossed, op.Translated.Block) || !strings.Contains(string(text), "C_DeriveKey") || !strings.Contains(string(text), "C_UnwrapKey") {
		t.Fatal("the record does not hold the operation")
	}
	secrets := map[string][]byte{"BDK": bdk, "zone key": zone}
	path, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Clone(bdk)
	for i := range path.Len() {
		next := make([]byte, path.Step(i).Key.Size())
		if err := software.AESDeriveStep(next, key, path.Step(i)); err != nil {
			t.Fatal(err)
		}
		key = next
		secrets["derived key "+string(rune('0'+i))] = key
	}
	if len(secrets) < 6 {
		t.Fatalf("only %d secrets", len(secrets))
	}
	for name, value := range secrets {
		if bytes.Contains(crossed, value) || strings.Contains(strings.ToLower(string(text)), hex.EncodeToString(value)) {
			t.Errorf("%s crossed the PKCS#11 interface", name)
		}
	}
}

func header(name, usage, mode string) hsm.Header {
	return hsm.Header{Name: name, Version: 1, Usage: usage, Algorithm: "A", Mode: mode, Exportability: "N",
		Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth, Peers: []string{"*"}, Formats: []hsm.Format{4}}
}

func workingKey(t *testing.T, bdk []byte, ksn dukpt.KSN) []byte {
	t.Helper()
	path, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 16)
	if err := software.AESDerive(key, bdk, path); err != nil {
		t.Fatal(err)
	}
	return key
}

// block4 is a format 4 block of PIN 1234.
func block4(t *testing.T, key []byte) []byte {
	t.Helper()
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 16)
	c.Encrypt(block, unhex(t, "441234AAAAAAAAAA0123456789ABCDEF"))
	for i, b := range unhex(t, "44111111111111111000000000000000") {
		block[i] ^= b
	}
	c.Encrypt(block, block)
	return block
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func recorded(t *testing.T, path string) []byte { return dumps(read(t, path)) }

var dumpLine = regexp.MustCompile(`(?m)^\s+[0-9a-f]{8}  ((?:[0-9A-Fa-f]{2} ?){1,16})`)

// dumps returns all bytes that the record shows as hex dumps, run together.
func dumps(text []byte) (all []byte) {
	for _, m := range dumpLine.FindAllSubmatch(text, -1) {
		b, err := hex.DecodeString(strings.ReplaceAll(string(m[1]), " ", ""))
		if err == nil {
			all = append(all, b...)
		}
	}
	return all
}
