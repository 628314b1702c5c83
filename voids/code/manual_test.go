package code_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"keyd/voids/code"
)

// TestManual follows the example in the manual as a maker of terminals would, with the standard
// library only, and holds it and the sizes against this package.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../docs/void-code.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(page)
	_, example, ok := strings.Cut(manual, "## An example")
	if !ok {
		t.Fatal("there is no example")
	}
	var lines []string // those of the blocks
	for i, block := range strings.Split(example, "```") {
		if i%2 == 1 {
			lines = append(lines, strings.Split(strings.Trim(block, "\n"), "\n")...)
		}
	}
	if len(lines) != 5 {
		t.Fatalf("%d lines in blocks", len(lines))
	}

	var all []byte
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `([0-9a-f]+)` \\|").FindAllStringSubmatch(example, -1) {
		b, err := hex.DecodeString(row[2])
		if at, wrong := strconv.Atoi(row[1]); err != nil || wrong != nil || at != len(all) {
			t.Fatalf("%s stands at %d", row[0], len(all))
		}
		all = append(all, b...)
	}
	if len(all) != 98 || text(all) != lines[2] || "HTTPS://VOID.EXAMPLE.COM/V/"+lines[2] != lines[3] {
		t.Fatalf("%d bytes, %s", len(all), text(all))
	}
	spki, err := hex.DecodeString(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*ecdsa.PublicKey)
	if sum := sha256.Sum256(spki); string(sum[:4]) != string(all[2:6]) {
		t.Errorf("key %x", sum[:4])
	}
	if sum := sha256.Sum256([]byte("keyd void audience 1\x00m-17")); string(sum[:8]) != string(all[26:34]) {
		t.Errorf("audience %x", sum[:8])
	}
	digest := sha256.Sum256(append([]byte("keyd void code 1\x00"), all[:34]...))
	if hex.EncodeToString(digest[:]) != lines[1] {
		t.Errorf("digest %x", digest)
	}
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(all[34:66]), new(big.Int).SetBytes(all[66:])})
	if err != nil || !ecdsa.VerifyASN1(key, digest[:], signature) {
		t.Errorf("the signature does not verify: %v", err)
	}

	if got := live(t, 0).Text(); got != lines[2] {
		t.Errorf("this package writes %s", got)
	}
	if got := url(t, live(t, 0), host); got != lines[3] {
		t.Errorf("this package writes %s", got)
	}
	if got := slip(t, 0).Text(); got != lines[4] {
		t.Errorf("this package writes %s", got)
	}
	p, err := code.Scan(lines[3], host)
	if err != nil {
		t.Fatal(err)
	}
	set, err := code.NewKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Verify(set, audienceOf(t, "m-17"), now, 0)
	if err != nil || c.Expiry.Format("2006-01-02 15:04:05 MST") != "2026-11-27 12:01:00 UTC" || !strings.Contains(example, "2026-11-27 12:01:00 UTC") {
		t.Errorf("%v, %v", c.Expiry, err)
	}

	for _, form := range forms {
		row := fmt.Sprintf("| %d | %d-%c | %d |", form.characters, form.version, form.level, 17+4*form.version+2*code.QuietZone)
		if !strings.Contains(manual, row) {
			t.Errorf("%s: the manual does not say %s", form.name, row)
		}
	}
}
