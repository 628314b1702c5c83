package token_test

import (
	"bufio"
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

// TestSecretsStayInLockedMemory scans the process for secrets that calls of direct.h
// carried: only the caller's page may have them, neither the C heap nor the stack.
func TestSecretsStayInLockedMemory(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	secrets, err := locked.New(4096)
	if err != nil {
		t.Fatal(err)
	}
	defer secrets.Free()
	mem := secrets.Bytes()
	size, agreed := map[elliptic.Curve]int{elliptic.P256(): 32, elliptic.P384(): 48, elliptic.P521(): 66}, 256
	var all [][]byte
	var names []string
	for curve, n := range size {
		var p token.Pair
		do(t, tok, func(s *token.Session) (err error) {
			p, err = s.GenerateEC(curve.Params().Name, curve, token.PairAgrees)
			return err
		})
		peer := publicOnly(t, p)
		do(t, tok, func(s *token.Session) error { return s.ECDH(p, peer, mem[agreed:agreed+n]) })
		all, names = append(all, mem[agreed:agreed+n]), append(names, "a secret agreed on "+curve.Params().Name)
		agreed += 128
	}
	master := mem[:32]
	_, _ = rand.Read(master) // never fails
	do(t, tok, func(s *token.Session) error {
		_, err := s.ImportMaster("scanned", token.MaySign, pkcs11.CKM_AES_CMAC, nil, master)
		return err
	})
	all, names = append(all, master), append(names, "an imported master key")
	for i, places := range scan(t, secrets, all) {
		for _, place := range places {
			t.Errorf("%s is in %s", names[i], place)
		}
	}
	// The scan finds what there is to find.
	copied := bytes.Clone(master)
	if len(scan(t, secrets, [][]byte{master})[0]) == 0 {
		t.Error("the scan does not find a copy")
	}
	clear(copied)
}

// publicOnly is a peer's key on the pair's curve of which nobody keeps the private half.
func publicOnly(t *testing.T, p token.Pair) *ecdh.PublicKey {
	t.Helper()
	own, err := p.Public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	other, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return other.PublicKey()
}

// scan returns, for each secret, where the process has 16 bytes of it, outside of the
// region.
func scan(t *testing.T, region *locked.Region, secrets [][]byte) [][]string {
	t.Helper()
	const window, overlap = 256 << 10, 128
	buffer, err := locked.New(window)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Free()
	excluded := []uintptr{uintptr(unsafe.Pointer(&region.Bytes()[0])), uintptr(unsafe.Pointer(&buffer.Bytes()[0]))}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = maps.Close() }()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mem.Close() }()
	found := make([][]string, len(secrets))
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(rights, "rw") {
			continue
		}
		for at := from; at < to; at += window - overlap {
			n, _ := mem.ReadAt(buffer.Bytes()[:min(window, to-at)], int64(at)) // what cannot be read is left out
			for i, secret := range secrets {
				needle := secret[2:18] // the first two bytes may be zero
				for rest, base := buffer.Bytes()[:n], at; ; {
					j := indexByBytes(rest, needle)
					if j < 0 {
						break
					}
					place := base + uintptr(j)
					if !near(place, excluded, len(region.Bytes()), window) {
						found[i] = append(found[i], fmt.Sprintf("%s (%x)", lines.Text(), place))
					}
					rest, base = rest[j+1:], place+1
				}
			}
		}
	}
	return found
}

// indexByBytes is [bytes.Index] without vector registers: those keep what was looked for, and
// when the scheduler interrupts the scan it saves them in memory, where the scan would find it.
func indexByBytes(b, needle []byte) int {
next:
	for i := 0; i+len(needle) <= len(b); i++ {
		for j := range needle {
			if b[i+j] != needle[j] {
				continue next
			}
		}
		return i
	}
	return -1
}

func near(place uintptr, starts []uintptr, sizes ...int) bool {
	for i, start := range starts {
		if place >= start && place < start+uintptr(sizes[i]) {
			return true
		}
	}
	return false
}
