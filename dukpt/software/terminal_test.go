package software_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/dukpt"
	"keyd/dukpt/software"
)

// hostKey is what the host derives for a transaction's derivation (AES) or transaction (TDES) key.
func hostKey(t failer, ik []byte, ksn dukpt.KSN) []byte {
	out := make([]byte, len(ik))
	var err error
	if ksn.Scheme() == dukpt.TDES {
		err = software.TDESTransactionKey(out, ik, ksn)
	} else {
		var p dukpt.Path
		if p, err = dukpt.NewDerivationPath(ksn, aesType(t, ik)); err == nil {
			err = software.AESDerive(out, ik, p.FromInitialKey())
		}
	}
	if err != nil {
		t.Fatalf("host: %s: %v", ksn, err)
	}
	return out
}

// hostWorkingKey is what the host derives for a usage.
func hostWorkingKey(t failer, ik []byte, ksn dukpt.KSN, usage dukpt.Usage, working dukpt.KeyType) []byte {
	out := make([]byte, working.Size())
	var err error
	if ksn.Scheme() == dukpt.TDES {
		v, _ := usage.Variant()
		err = software.TDESWorkingKey(out, hostKey(t, ik, ksn), v)
	} else {
		var p dukpt.Path
		if p, err = dukpt.NewPath(ksn, aesType(t, ik), usage, working); err == nil {
			err = software.AESDerive(out, ik, p.FromInitialKey())
		}
	}
	if err != nil {
		t.Fatalf("host: %s %s %s: %v", ksn, usage, working, err)
	}
	return out
}

type failer interface {
	Fatalf(string, ...any)
}

func aesType(t failer, ik []byte) dukpt.KeyType {
	k, err := dukpt.AESKeyType(len(ik))
	if err != nil {
		t.Fatalf("%d bytes: %v", len(ik), err)
	}
	return k
}

// checkTransaction compares the working keys of a transaction with the host's.
func checkTransaction(t failer, ik []byte, tx *software.Transaction) {
	ksn := tx.KSN()
	types := []dukpt.KeyType{dukpt.TDES2Key}
	all := []dukpt.Usage{
		dukpt.UsagePIN, dukpt.UsageMACGeneration, dukpt.UsageMACVerification, dukpt.UsageDataEncryption, dukpt.UsageDataDecryption,
	}
	if ksn.Scheme() == dukpt.AES {
		types = append(types, dukpt.TDES3Key, dukpt.AES128, aesType(t, ik))
		all = append(all, dukpt.UsageMACBoth, dukpt.UsageDataBoth, dukpt.UsageKeyEncryption)
	}
	for _, usage := range all {
		for _, working := range types {
			got := make([]byte, working.Size())
			if err := tx.Key(got, usage, working); err != nil {
				t.Fatalf("%s %s %s: %v", ksn, usage, working, err)
			}
			if want := hostWorkingKey(t, ik, ksn, usage, working); !bytes.Equal(got, want) {
				t.Fatalf("%s %s %s: terminal %X, host %X", ksn, usage, working, got, want)
			}
		}
	}
}

// state builds the written form of a terminal that stands before the transaction of ksn, from the host's
// derivations: register i holds the key of the counter's bits above i with bit i set.
func state(t failer, ik []byte, ksn dukpt.KSN) map[string]any {
	scheme, c := ksn.Scheme(), ksn.Counter()
	registers := make([]string, scheme.CounterBits())
	for i := range registers {
		bit := uint32(1) << i
		above := c &^ (bit<<1 - 1)
		lowest := c & -c
		if bit != lowest && (bit < lowest || c&bit != 0) {
			continue
		}
		k, err := ksn.WithCounter(above | bit)
		if err != nil {
			t.Fatalf("%s: %v", ksn, err)
		}
		registers[i] = upper(hostKey(t, ik, k))
	}
	s := map[string]any{
		"scheme": scheme.String(), "key_type": "TDES_2KEY", "ksn": ksn.String(), "exhausted": false, "registers": registers,
	}
	if scheme == dukpt.AES {
		s["key_type"] = aesType(t, ik).String()
		key := bytes.Clone(ik)
		var counter uint32
		for i := 31; i >= 0; i-- {
			counter |= 1 << i
			step, err := dukpt.DerivationKeyStep(ksn.InitialKeyID(), counter, aesType(t, ik))
			if err == nil {
				err = software.AESDeriveStep(key, key, step)
			}
			if err != nil {
				t.Fatalf("update key: %v", err)
			}
		}
		s["update_key"] = upper(key)
	}
	return s
}

// encode writes a state in the order of its documentation.
func encode(t failer, s map[string]any) []byte {
	var b bytes.Buffer
	for _, name := range []string{"scheme", "key_type", "ksn", "exhausted", "registers", "update_key"} {
		v, ok := s[name]
		if !ok {
			continue
		}
		if b.Len() == 0 {
			b.WriteByte('{')
		} else {
			b.WriteByte(',')
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%v", err)
		}
		b.WriteString(`"` + name + `":`)
		b.Write(j)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// X9.24-1:2009 A.2 and X9.24-3:2017 6.5: terminal and host agree, from any counter on, across restarts, and a
// begun transaction's key is nowhere in the terminal.
func TestTerminalEqualsHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{0, 16, 24, 32}).Draw(t, "AES key size, 0 for TDES")
		ksnSize, ikSize := dukpt.AESKSNSize, size
		if size == 0 {
			ksnSize, ikSize = dukpt.TDESKSNSize, software.TDESKeySize
		}
		raw := rapid.SliceOfN(rapid.Byte(), ksnSize, ksnSize).Draw(t, "ksn")
		ik := rapid.SliceOfN(rapid.Byte(), ikSize, ikSize).Draw(t, "ik")
		if ksnSize == dukpt.TDESKSNSize {
			raw[7] &= 0xE0
		}
		clear(raw[8:])
		initial, err := dukpt.ParseInitialKSN(raw)
		if err != nil {
			t.Fatal(err)
		}

		var terminal *software.Terminal
		want := initial
		if rapid.Bool().Draw(t, "freshly loaded") {
			if terminal, err = software.NewTerminal(ik, initial); err != nil {
				t.Fatal(err)
			}
			want, _ = initial.Next()
		} else {
			// A counter with as many one-bits as are drawn, at most the scheme's.
			var c uint32
			for range rapid.IntRange(1, initial.Scheme().MaxOneBits()).Draw(t, "one-bits") {
				c |= 1 << rapid.IntRange(0, initial.Scheme().CounterBits()-1).Draw(t, "bit")
			}
			if want, err = initial.WithCounter(c); err != nil {
				t.Fatal(err)
			}
			if terminal, err = software.UnmarshalTerminalState(encode(t, state(t, ik, want))); err != nil {
				t.Fatalf("state at %s: %v", want, err)
			}
		}

		for range rapid.IntRange(1, 120).Draw(t, "transactions") {
			tx, err := terminal.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if tx.KSN() != want {
				t.Fatalf("KSN = %s, want %s", tx.KSN(), want)
			}
			checkTransaction(t, ik, tx)
			written, err := terminal.MarshalState()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(written), upper(hostKey(t, ik, want))) || strings.Contains(string(written), upper(ik)) {
				t.Fatal("a key of the past is in the terminal")
			}
			tx.Destroy()
			if want, err = want.Next(); errors.Is(err, dukpt.ErrExhausted) {
				if _, err := terminal.Begin(); err != dukpt.ErrExhausted {
					t.Fatalf("after the last transaction: %v", err)
				}
				if _, err := software.UnmarshalTerminalState(written); err != nil {
					t.Fatalf("exhausted state: %v", err)
				}
				return
			}
			if expect := encode(t, state(t, ik, want)); !bytes.Equal(written, expect) {
				t.Fatalf("state before %s:\n%s\nwant\n%s", want, written, expect)
			}
			if rapid.Bool().Draw(t, "restart") {
				if terminal, err = software.UnmarshalTerminalState(written); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestTDESTerminalLife goes through all transactions of an initial key.
func TestTDESTerminalLife(t *testing.T) {
	ik := unhex(t, "6AC292FAA1315B4D858AB3A3D7D5933A")
	initial, err := dukpt.ParseInitialKSN(unhex(t, "FFFF9876543210E00000"))
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := software.NewTerminal(ik, initial)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	got, want := make([]byte, 16), make([]byte, 16)
	for {
		tx, err := terminal.Begin()
		if err == dukpt.ErrExhausted {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if n%97 != 0 && bits.OnesCount32(tx.KSN().Counter()) != 1 {
			continue
		}
		if err := tx.Key(got, dukpt.UsagePIN, dukpt.TDES2Key); err != nil {
			t.Fatal(err)
		}
		if err := software.TDESTransactionKey(want, ik, tx.KSN()); err != nil {
			t.Fatal(err)
		}
		if err := software.TDESWorkingKey(want, want, dukpt.VariantPIN); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: terminal %X, host %X", tx.KSN(), got, want)
		}
	}
	if n != 1048575 {
		t.Errorf("%d transactions, X9.24-1:2009 A.3 has 1,048,575", n)
	}
	written, err := terminal.MarshalState()
	if err != nil {
		t.Fatal(err)
	}
	want2 := `{"scheme":"TDES","key_type":"TDES_2KEY","ksn":"FFFF9876543210FFF800","exhausted":true,"registers":[` +
		strings.TrimSuffix(strings.Repeat(`"",`, 21), ",") + `]}`
	if string(written) != want2 {
		t.Errorf("exhausted state %s", written)
	}
	again, err := software.UnmarshalTerminalState(written)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Begin(); err != dukpt.ErrExhausted {
		t.Errorf("Begin after a restart: %v", err)
	}
}

func TestAESTerminalExhausted(t *testing.T) {
	ik := unhex(t, "1273671EA26AC29AFA4D1084127652A1")
	last := parseKSN(t, "1234567890123456FFFF0000")
	terminal, err := software.UnmarshalTerminalState(encode(t, state(t, ik, last)))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := terminal.Begin()
	if err != nil {
		t.Fatal(err)
	}
	checkTransaction(t, ik, tx)
	if _, err := terminal.KSN(); err != dukpt.ErrExhausted {
		t.Errorf("KSN: %v", err)
	}
	if _, err := terminal.Begin(); err != dukpt.ErrExhausted {
		t.Errorf("Begin: %v", err)
	}
	// That is when the update key is needed.
	got := make([]byte, 16)
	if err := terminal.UpdateKey(got, dukpt.AES128); err != nil || upper(got) != "9A9770AEE1ACD1B13473D0463A1883B9" {
		t.Errorf("UpdateKey = %X, %v", got, err)
	}
}

func TestNewTerminalRefusals(t *testing.T) {
	tdes, _ := dukpt.ParseInitialKSN(unhex(t, "FFFF9876543210E00000"))
	aes, _ := dukpt.ParseInitialKSN(unhex(t, "123456789012345600000000"))
	tests := []struct {
		name string
		ksn  dukpt.KSN
		size int
		want error
	}{
		{"TDES", tdes, 16, nil},
		{"TDES single length", tdes, 8, software.ErrKeySize},
		{"TDES triple length", tdes, 24, software.ErrKeySize},
		{"TDES no key", tdes, 0, software.ErrKeySize},
		{"TDES counter 1", parseKSN(t, "FFFF9876543210E00001"), 16, dukpt.ErrKSNCounterNotZero},
		{"AES-128", aes, 16, nil},
		{"AES-192", aes, 24, nil},
		{"AES-256", aes, 32, nil},
		{"AES 8 bytes", aes, 8, software.ErrKeySize},
		{"AES 33 bytes", aes, 33, software.ErrKeySize},
		{"AES counter 1", parseKSN(t, "123456789012345600000001"), 16, dukpt.ErrKSNCounterNotZero},
		{"zero KSN", dukpt.KSN{}, 16, dukpt.ErrKSNLength},
	}
	for _, tt := range tests {
		terminal, err := software.NewTerminal(make([]byte, tt.size), tt.ksn)
		if err != tt.want || (terminal == nil) == (err == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestTransactionRefusals(t *testing.T) {
	tdes, _ := dukpt.ParseInitialKSN(unhex(t, "FFFF9876543210E00000"))
	aes, _ := dukpt.ParseInitialKSN(unhex(t, "123456789012345600000000"))
	begin := func(ksn dukpt.KSN) (*software.Terminal, *software.Transaction) {
		terminal, err := software.NewTerminal(make([]byte, 16), ksn)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := terminal.Begin()
		if err != nil {
			t.Fatal(err)
		}
		return terminal, tx
	}
	tdesTerminal, tdesTX := begin(tdes)
	aesTerminal, aesTX := begin(aes)
	tests := []struct {
		name    string
		tx      *software.Transaction
		size    int
		usage   dukpt.Usage
		working dukpt.KeyType
		want    error
	}{
		{"TDES with an AES key", tdesTX, 16, dukpt.UsagePIN, dukpt.AES128, dukpt.ErrKeyType},
		{"TDES with a three-key", tdesTX, 24, dukpt.UsagePIN, dukpt.TDES3Key, dukpt.ErrKeyType},
		{"TDES key encryption", tdesTX, 16, dukpt.UsageKeyEncryption, dukpt.TDES2Key, dukpt.ErrUsage},
		{"TDES output", tdesTX, 8, dukpt.UsagePIN, dukpt.TDES2Key, software.ErrOutputSize},
		{"AES-256 from AES-128", aesTX, 32, dukpt.UsagePIN, dukpt.AES256, dukpt.ErrStronger},
		{"AES usage", aesTX, 16, 0x1234, dukpt.AES128, dukpt.ErrUsage},
		{"AES output", aesTX, 15, dukpt.UsagePIN, dukpt.AES128, software.ErrOutputSize},
	}
	for _, tt := range tests {
		out := make([]byte, tt.size)
		if err := tt.tx.Key(out, tt.usage, tt.working); err != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if !bytes.Equal(out, make([]byte, tt.size)) {
			t.Errorf("%s: output beside an error", tt.name)
		}
	}
	out := make([]byte, 16)
	if err := tdesTerminal.UpdateKey(out, dukpt.AES128); err != software.ErrScheme {
		t.Errorf("update key of a TDES terminal: %v", err)
	}
	if err := aesTerminal.UpdateKey(out, dukpt.AES256); err != dukpt.ErrStronger {
		t.Errorf("update key stronger than the initial key: %v", err)
	}
	for _, tx := range []*software.Transaction{tdesTX, aesTX} {
		tx.Destroy()
		if err := tx.Key(out, dukpt.UsagePIN, dukpt.TDES2Key); err != software.ErrTerminalDestroyed {
			t.Errorf("key of a destroyed transaction: %v", err)
		}
	}
	for _, terminal := range []*software.Terminal{tdesTerminal, aesTerminal, new(software.Terminal)} {
		terminal.Destroy()
		if *terminal != (software.Terminal{}) {
			t.Error("Destroy leaves something")
		}
		if _, err := terminal.Begin(); err != software.ErrTerminalDestroyed {
			t.Errorf("Begin: %v", err)
		}
		if _, err := terminal.MarshalState(); err != software.ErrTerminalDestroyed {
			t.Errorf("MarshalState: %v", err)
		}
		if err := terminal.UpdateKey(out, dukpt.AES128); err != software.ErrTerminalDestroyed {
			t.Errorf("UpdateKey: %v", err)
		}
	}
}

// goodStates are the states of three terminals, each with its initial key.
func goodStates(t testing.TB) [][]byte {
	var states [][]byte
	for _, s := range []struct{ ik, ksn string }{
		{"6AC292FAA1315B4D858AB3A3D7D5933A", "FFFF9876543210E00001"},
		{"6AC292FAA1315B4D858AB3A3D7D5933A", "FFFF9876543210FFF800"},
		{"1273671EA26AC29AFA4D1084127652A1", "123456789012345600000006"},
		{"CE9CE0C101D1138F97FB6CAD4DF045A7083D4EAE2D35A31789D01CCF0949550F", "1234567890123456FFFF0000"},
	} {
		states = append(states, encode(t, state(t, unhex(t, s.ik), parseKSN(t, s.ksn))))
	}
	return states
}

func TestUnmarshalTerminalStateRefusals(t *testing.T) {
	change := func(f func(map[string]any)) []byte {
		s := state(t, unhex(t, "6AC292FAA1315B4D858AB3A3D7D5933A"), parseKSN(t, "FFFF9876543210E00006"))
		f(s)
		return encode(t, s)
	}
	changeAES := func(f func(map[string]any)) []byte {
		s := state(t, unhex(t, "1273671EA26AC29AFA4D1084127652A1"), parseKSN(t, "123456789012345600000001"))
		f(s)
		return encode(t, s)
	}
	none := func(map[string]any) {}
	good := string(change(none))
	if _, err := software.UnmarshalTerminalState([]byte(good + "\n")); err != nil {
		t.Fatalf("good state: %v", err)
	}
	registers := func(s map[string]any) []string { return s["registers"].([]string) }
	tests := map[string][]byte{
		"nothing":                        nil,
		"null":                           []byte("null"),
		"no object":                      []byte("[]"),
		"empty object":                   []byte("{}"),
		"cut off":                        []byte(good[:len(good)-1]),
		"something behind":               []byte(good + "{}"),
		"something before":               []byte(" " + good),
		"unknown name":                   []byte(strings.Replace(good, `{"scheme"`, `{"ipek":"00","scheme"`, 1)),
		"name twice":                     []byte(strings.Replace(good, `{"scheme"`, `{"scheme":"TDES","scheme"`, 1)),
		"name in capitals":               []byte(strings.Replace(good, `"ksn"`, `"KSN"`, 1)),
		"white space":                    []byte(strings.Replace(good, `,`, `, `, 1)),
		"lower-case hex":                 []byte(strings.ToLower(good)),
		"other scheme":                   change(func(s map[string]any) { s["scheme"] = "AES" }),
		"other key type":                 change(func(s map[string]any) { s["key_type"] = "AES_128" }),
		"counter 0":                      change(func(s map[string]any) { s["ksn"] = "FFFF9876543210E00000" }),
		"too many one-bits":              change(func(s map[string]any) { s["ksn"] = "FFFF9876543210FFFC00" }),
		"short KSN":                      change(func(s map[string]any) { s["ksn"] = "FFFF98765432" }),
		"KSN no hex":                     change(func(s map[string]any) { s["ksn"] = "XXFF9876543210E00006" }),
		"counter moved on":               change(func(s map[string]any) { s["ksn"] = "FFFF9876543210E00007" }),
		"counter moved back":             change(func(s map[string]any) { s["ksn"] = "FFFF9876543210E00005" }),
		"exhausted too early":            change(func(s map[string]any) { s["exhausted"] = true; s["registers"] = make([]string, 21) }),
		"key missing":                    change(func(s map[string]any) { registers(s)[1] = "" }),
		"key of the past":                change(func(s map[string]any) { registers(s)[2] = registers(s)[1] }),
		"key too many":                   change(func(s map[string]any) { registers(s)[0] = registers(s)[1] }),
		"key short":                      change(func(s map[string]any) { registers(s)[1] = registers(s)[1][:30] }),
		"key long":                       change(func(s map[string]any) { registers(s)[1] += "00" }),
		"key no hex":                     change(func(s map[string]any) { registers(s)[1] = "G" + registers(s)[1][1:] }),
		"register missing":               change(func(s map[string]any) { s["registers"] = registers(s)[:20] }),
		"register too many":              change(func(s map[string]any) { s["registers"] = append(registers(s), "") }),
		"update key of a TDES terminal":  change(func(s map[string]any) { s["update_key"] = registers(s)[1] }),
		"AES without update key":         changeAES(func(s map[string]any) { delete(s, "update_key") }),
		"AES update key of other length": changeAES(func(s map[string]any) { s["update_key"] = strings.Repeat("00", 32) }),
		"AES update key no hex":          changeAES(func(s map[string]any) { s["update_key"] = strings.Repeat("ZZ", 16) }),
		"AES as TDES":                    changeAES(func(s map[string]any) { s["key_type"] = "TDES_2KEY" }),
		"huge":                           bytes.Repeat([]byte("x"), 1<<20),
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			terminal, err := software.UnmarshalTerminalState(in)
			if err != software.ErrTerminalState || terminal != nil {
				t.Errorf("%v, %v", terminal, err)
			}
		})
	}
}

func FuzzTerminalState(f *testing.F) {
	for _, s := range goodStates(f) {
		f.Add(s)
		f.Add(append(s, '\n'))
		f.Add(bytes.ToLower(s))
		f.Add(s[:len(s)/2])
	}
	f.Add([]byte(`{"scheme":"TDES","key_type":"TDES_2KEY","ksn":"FFFF9876543210FFF800","exhausted":true,"registers":["","","","","","","","","","","","","","","","","","","","",""]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		terminal, err := software.UnmarshalTerminalState(b)
		if err != nil {
			if terminal != nil || err != software.ErrTerminalState {
				t.Fatalf("%v beside %v", terminal, err)
			}
			return
		}
		again, err := terminal.MarshalState()
		if err != nil || !bytes.Equal(again, bytes.TrimRight(b, " \t\r\n")) {
			t.Fatalf("written again: %s, %v", again, err)
		}
		before, err := terminal.KSN()
		if err == dukpt.ErrExhausted {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		tx, err := terminal.Begin()
		if err != nil || tx.KSN() != before {
			t.Fatalf("Begin: %v", err)
		}
		if after, err := terminal.MarshalState(); err != nil || bytes.Equal(after, again) {
			t.Fatalf("the state stays as it was: %v", err)
		}
	})
}
