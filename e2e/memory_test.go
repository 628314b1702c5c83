package e2e

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// TestNoSecretStaysInMemory runs traffic under fresh random keys and looks for every
// clear PIN block, PIN field, and key in the whole memory of the front meanwhile, and
// of the modules when the traffic has ended, in binary, hex and base64.
func TestNoSecretStaysInMemory(t *testing.T) {
	if !asRoot(t) { // only root can read the memory of keyd's processes: that is one of the measures under test
		return
	}
	load := newSecretLoad(t)
	s := start(t, load.ring.keys...)
	planted := plant(t) // proves that the scan finds what is there

	var wait sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		clients := secretClients{s.pins(), s.macs(), s.data()}
		wait.Go(func() {
			for {
				for i := range load.requests {
					select {
					case <-done:
						return
					default:
					}
					if err := load.requests[i](clients); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for round := range 3 {
		for _, front := range processes(s.status(), "front") {
			if hits := scan(t, int(front.Pid), load.secrets); len(hits) > 0 {
				t.Errorf("front under load, round %d: %s", round, strings.Join(hits, "; "))
			}
		}
	}
	close(done)
	wait.Wait()
	// What is public is found: the scan reads the memory that the work was done in.
	for _, front := range processes(s.status(), "front") {
		if hits := scan(t, int(front.Pid), load.public); len(hits) == 0 {
			t.Error("the scan of the front finds none of the PANs that passed through it")
		}
	}
	modules := processes(s.status(), "module")
	if len(modules) == 0 {
		t.Fatal("no module")
	}
	for _, module := range modules {
		if hits := scan(t, int(module.Pid), load.secrets); len(hits) > 0 {
			t.Errorf("module after the load: %s", strings.Join(hits, "; "))
		}
	}
	if hits := scan(t, int(s.cmd.Process.Pid), load.secrets); len(hits) > 0 {
		t.Errorf("supervisor: %s", strings.Join(hits, "; "))
	}
	if hits := scan(t, os.Getpid(), map[string][]byte{"planted": planted}); len(hits) == 0 {
		t.Error("the scan does not find a planted value")
	}
}

// planted is memory of this test process with a value that the scan must find.
func plant(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// secretLoad is traffic whose every secret is known to the test.
type secretLoad struct {
	ring     *keyring
	secrets  map[string][]byte
	public   map[string][]byte
	requests []func(secretClients) error
}

type secretClients struct {
	pins keydv1.PinServiceClient
	macs keydv1.MacServiceClient
	data keydv1.DataServiceClient
}

func newSecretLoad(t *testing.T) *secretLoad {
	l := &secretLoad{ring: &keyring{names: map[string]string{}}, secrets: map[string][]byte{}, public: map[string][]byte{}}
	random := func(n int) []byte {
		b := make([]byte, n)
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	upper := func(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
	key := func(what, usage, algorithm, mode string, size int) (string, []byte) {
		value := random(size)
		l.secrets[what] = value
		return l.ring.add(usage, algorithm, mode, upper(value)), value
	}
	digits := func(n int) string {
		s := make([]byte, n)
		for i, b := range random(n) {
			s[i] = '0' + b%10
		}
		return string(s)
	}
	for i := range 12 {
		pin, pan := digits(12), "4"+digits(15)
		l.public[fmt.Sprint("PAN ", i)] = []byte(pan)
		in, inValue := key(fmt.Sprint("incoming zone key ", i), "P0", "T", "D", 16)
		out, _ := key(fmt.Sprint("outgoing zone key ", i), "P0", "T", "E", 24)
		outAES, outAESValue := key(fmt.Sprint("AES zone key ", i), "P0", "A", "B", 32)
		pvk, pvkValue := key(fmt.Sprint("PVK ", i), "V2", "T", "C", 16)
		dataIn, dataValue := key(fmt.Sprint("data key ", i), "D0", "A", "D", 16)
		dataOut, _ := key(fmt.Sprint("outgoing data key ", i), "D0", "T", "E", 24)
		retail, _ := key(fmt.Sprint("MAC key ", i), "M3", "T", "G", 16)
		cvk, _ := key(fmt.Sprint("CVK ", i), "C0", "T", "V", 16)
		bdk, bdkValue := key(fmt.Sprint("BDK ", i), "B0", "T", "X", 16)
		bdkAES, bdkAESValue := key(fmt.Sprint("AES BDK ", i), "B0", "A", "X", 16)

		block0 := iso0(t, "0", pin, "F", pan)
		l.secrets[fmt.Sprint("PIN block ", i)] = block0
		l.secrets[fmt.Sprint("PIN field ", i)] = unhex(t, "0C"+pin+"FF")
		l.secrets[fmt.Sprint("PIN field 4 ", i)] = unhex(t, "4C"+pin+"AA")
		l.secrets[fmt.Sprint("PIN ", i)] = []byte(pin)
		zoneIn := &keydv1.PinKey{KeyId: in, Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
		enciphered := encrypt(tdes(t, inValue), block0)

		tdesKeys := deriveTDES(t, bdkValue, unhex(t, "FFFF9876543210E00001"))
		for name, value := range tdesKeys {
			l.secrets[fmt.Sprint(name, " ", i)] = value
		}
		aesKeys := deriveAES(t, bdkAESValue, unhex(t, "123456789012345600000001"))
		for name, value := range aesKeys {
			l.secrets[fmt.Sprint(name, " ", i)] = value
		}
		translate := func(in, out *keydv1.PinKey, block []byte) {
			l.requests = append(l.requests, func(c secretClients) error {
				_, err := c.pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out, PrimaryAccountNumber: pan, EncryptedPinBlock: block})
				return err
			})
		}
		translate(zoneIn, &keydv1.PinKey{KeyId: out, Format: keydv1.PinBlockFormat_ISO_FORMAT_3}, enciphered)
		translate(zoneIn, &keydv1.PinKey{KeyId: outAES, Format: keydv1.PinBlockFormat_ISO_FORMAT_4}, enciphered)
		translate(&keydv1.PinKey{KeyId: outAES, Format: keydv1.PinBlockFormat_ISO_FORMAT_4},
			&keydv1.PinKey{KeyId: out, Format: keydv1.PinBlockFormat_ISO_FORMAT_0}, seal4(t, outAESValue, pin, pan))
		translate(&keydv1.PinKey{KeyId: bdk, Format: keydv1.PinBlockFormat_ISO_FORMAT_0, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}},
			&keydv1.PinKey{KeyId: out, Format: keydv1.PinBlockFormat_ISO_FORMAT_0}, encrypt(tdes(t, tdesKeys["TDES PIN key"]), block0))
		translate(&keydv1.PinKey{KeyId: bdkAES, Format: keydv1.PinBlockFormat_ISO_FORMAT_4, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "123456789012345600000001")}},
			&keydv1.PinKey{KeyId: out, Format: keydv1.PinBlockFormat_ISO_FORMAT_0}, seal4(t, aesKeys["AES PIN key"], pin, pan))
		l.requests = append(l.requests, func(c secretClients) error {
			_, err := c.pins.VerifyPinData(t.Context(), &keydv1.VerifyPinDataRequest{Incoming: zoneIn, VerificationKeyId: pvk, PrimaryAccountNumber: pan, EncryptedPinBlock: enciphered,
				Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: "0000"}}}})
			return err
		})
		// A change: the new PIN is a secret too, and so are both validation blocks.
		renewed := digits(12)
		l.secrets[fmt.Sprint("new PIN block ", i)] = iso0(t, "0", renewed, "F", pan)
		l.secrets[fmt.Sprint("new PIN ", i)] = []byte(renewed)
		l.secrets[fmt.Sprint("TSP ", i)] = unhex(t, account(pan)[1:]+"1"+pin[:4])
		current, next := visa(1, pvvOf(t, upper(pvkValue), pan, 1, pin)), encrypt(tdes(t, inValue), iso0(t, "0", renewed, "F", pan))
		// Data that only change their key, and MACs.
		clear := random(64)
		l.secrets[fmt.Sprint("re-encrypted data ", i)] = clear[16:48]
		ciphertext := make([]byte, len(clear))
		cipher.NewCBCEncrypter(aesCipher(t, dataValue), make([]byte, 16)).CryptBlocks(ciphertext, clear)
		serial := &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}
		l.requests = append(l.requests, func(c secretClients) error {
			answer, err := c.pins.ChangePinData(t.Context(), &keydv1.ChangePinDataRequest{Incoming: zoneIn, VerificationKeyId: pvk, PrimaryAccountNumber: pan,
				CurrentEncryptedPinBlock: enciphered, Current: current, NewEncryptedPinBlock: next})
			if err == nil && !answer.Verified {
				err = errors.New("the right PIN is not verified")
			}
			return err
		}, func(c secretClients) error {
			_, err := c.pins.GeneratePinData(t.Context(), &keydv1.GeneratePinDataRequest{Outgoing: &keydv1.PinKey{KeyId: out, Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
				GenerationKeyId: pvk, PrimaryAccountNumber: pan, PinLength: 12, Method: visa(1, "")})
			return err
		}, func(c secretClients) error {
			_, err := c.data.ReEncryptData(t.Context(), &keydv1.ReEncryptDataRequest{Incoming: &keydv1.DataKey{KeyId: dataIn, Mode: keydv1.DataKey_CBC},
				Outgoing: &keydv1.DataKey{KeyId: dataOut, Mode: keydv1.DataKey_CBC}, Ciphertext: ciphertext, InitializationVector: make([]byte, 16)})
			return err
		}, func(c secretClients) error {
			_, err := c.data.ReEncryptData(t.Context(), &keydv1.ReEncryptDataRequest{Incoming: &keydv1.DataKey{KeyId: dataIn, Mode: keydv1.DataKey_CBC},
				Outgoing:   &keydv1.DataKey{KeyId: bdk, Mode: keydv1.DataKey_CBC, Dukpt: serial, Direction: keydv1.DataKey_RESPONSE},
				Ciphertext: ciphertext, InitializationVector: make([]byte, 16)})
			return err
		}, func(c secretClients) error {
			_, err := c.macs.GenerateMac(t.Context(), &keydv1.GenerateMacRequest{Message: ciphertext, Key: &keydv1.MacKey{
				KeyId: bdk, Algorithm: keydv1.MacKey_ISO9797_ALGORITHM3, Dukpt: serial, Direction: keydv1.MacKey_REQUEST}})
			return err
		}, func(c secretClients) error {
			_, err := c.macs.GenerateMac(t.Context(), &keydv1.GenerateMacRequest{Message: ciphertext, Key: &keydv1.MacKey{KeyId: retail, Algorithm: keydv1.MacKey_ISO9797_ALGORITHM3}})
			return err
		}, func(c secretClients) error {
			_, err := c.data.VerifyCardValidationData(t.Context(), &keydv1.VerifyCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: pan, Method: cvv2("1228"), ValidationData: "123"})
			return err
		})
	}
	return l
}

// deriveTDES is X9.24-1 for counter 1, on Go's own DES.
func deriveTDES(t *testing.T, bdk, ksn []byte) map[string][]byte {
	t.Helper()
	mask := unhex(t, "C0C0C0C000000000C0C0C0C000000000")
	id := bytes.Clone(ksn[:8])
	id[7] &= 0xE0
	ik := append(encrypt(tdes(t, bdk), id), encrypt(tdes(t, xor(bdk, mask)), id)...)
	register := bytes.Clone(ksn[2:])
	register[5] &= 0xE0
	register[6], register[7] = 0, 1
	half := func(key []byte) []byte {
		return xor(encrypt(des1(t, key[:8]), xor(register, key[8:])), key[8:])
	}
	transaction := append(half(xor(ik, mask)), half(ik)...)
	return map[string][]byte{
		"TDES initial key":     ik,
		"TDES transaction key": transaction,
		"TDES PIN key":         xor(transaction, unhex(t, "00000000000000FF00000000000000FF")),
		"TDES MAC key":         xor(transaction, unhex(t, "000000000000FF00000000000000FF00")),
		"TDES data variant":    xor(transaction, unhex(t, "000000FF00000000000000FF00000000")),
		"masked BDK":           xor(bdk, mask),
	}
}

// deriveAES is X9.24-3 for counter 1 and AES-128 throughout, on Go's own AES.
func deriveAES(t *testing.T, bdk, ksn []byte) map[string][]byte {
	t.Helper()
	initial := encrypt(aesCipher(t, bdk), append(unhex(t, "0101800100020080"), ksn[:8]...))
	transaction := encrypt(aesCipher(t, initial), append(unhex(t, "0101800000020080"), ksn[4:]...))
	return map[string][]byte{
		"AES initial key":    initial,
		"AES derivation key": transaction,
		"AES PIN key":        encrypt(aesCipher(t, transaction), append(unhex(t, "0101100000020080"), ksn[4:]...)),
	}
}

// formsOf are the forms in which secrets are looked for: binary, hex in both cases, and base64 in
// both alphabets, wherever in what is encoded a secret begins.
func formsOf(secrets map[string][]byte) map[string]string {
	forms := map[string]string{}
	for name, value := range secrets {
		forms[string(value)] = name + " in binary"
		forms[hex.EncodeToString(value)] = name + " in hex"
		forms[strings.ToUpper(hex.EncodeToString(value))] = name + " in hex"
		for shift := range 3 { // a character has 6 bits: those that are the secret's alone
			for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				text := encoding.EncodeToString(append(make([]byte, shift), value...))
				forms[text[(8*shift+5)/6:8*(shift+len(value))/6]] = name + " in base64"
			}
		}
	}
	return forms
}

// scan looks for each secret in all memory of a process, in each of its forms.
func scan(t *testing.T, pid int, secrets map[string][]byte) (hits []string) {
	t.Helper()
	forms := formsOf(secrets)
	index := newPrefixIndex(forms)
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close() //nolint:errcheck // read only
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close() //nolint:errcheck // read only
	seen := map[string]bool{}
	var scanned int64
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' {
			continue
		}
		const chunk, overlap = 1 << 20, 64
		for at := from; at < to; at += chunk {
			buffer := make([]byte, min(chunk+overlap, to-at))
			n, err := mem.ReadAt(buffer, at)
			if err != nil && n == 0 {
				continue // a mapping that the kernel does not let anyone read
			}
			scanned += int64(n)
			for _, form := range index.find(buffer[:n]) {
				hit := fmt.Sprintf("%s at %s", forms[form], strings.Join(strings.Fields(lines.Text())[5:], " "))
				if !seen[hit] {
					seen[hit] = true
					hits = append(hits, hit)
				}
			}
		}
	}
	if scanned < 1<<20 {
		t.Fatalf("only %d bytes of process %d were readable", scanned, pid)
	}
	return hits
}

// prefixIndex finds many strings in one pass, by their first four bytes.
type prefixIndex struct {
	prefixes map[[4]byte][]string
	first    [1 << 16]bool // of the first two bytes
}

func newPrefixIndex(forms map[string]string) *prefixIndex {
	x := &prefixIndex{prefixes: map[[4]byte][]string{}}
	for form := range forms {
		p := [4]byte([]byte(form[:4]))
		x.prefixes[p] = append(x.prefixes[p], form)
		x.first[int(p[0])<<8|int(p[1])] = true
	}
	return x
}

func (x *prefixIndex) find(b []byte) (found []string) {
	for i := 0; i+4 <= len(b); i++ {
		if !x.first[int(b[i])<<8|int(b[i+1])] {
			continue
		}
		for _, form := range x.prefixes[[4]byte(b[i:i+4])] {
			if bytes.HasPrefix(b[i:], []byte(form)) {
				found = append(found, form)
			}
		}
	}
	return found
}
