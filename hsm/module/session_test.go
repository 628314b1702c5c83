package module

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
)

// spec is a session key that is valid for a day.
func (f *factory) spec(usage, algorithm string, length int) hsm.SessionKeySpec {
	name := "key" + fmt.Sprint(length) + map[string]string{"T": "t", "A": "a"}[algorithm] + map[string]string{"P0": "p", "M1": "m1", "M3": "m3", "M6": "m6", "D0": "d"}[usage]
	return hsm.SessionKeySpec{Name: name, Usage: usage, Algorithm: algorithm, Length: length, Version: 1, NotAfter: f.now.Unix() + 86400}
}

// Session keys reach the terminal in the form that its master key is for, and are of use here.
func TestSessionKeys(t *testing.T) {
	f := newFactory(t)
	for i, c := range []struct {
		master hsm.MasterSpec
		specs  []hsm.SessionKeySpec
	}{
		{hsm.MasterSpec{Algorithm: "A", Length: 32}, []hsm.SessionKeySpec{
			f.spec("P0", "A", 16), f.spec("P0", "T", 16), f.spec("M1", "T", 16), f.spec("M3", "T", 16), f.spec("M6", "T", 24), f.spec("M6", "A", 32), f.spec("D0", "A", 24), f.spec("D0", "T", 24)}},
		{hsm.MasterSpec{Algorithm: "T", Length: 24}, []hsm.SessionKeySpec{f.spec("P0", "T", 24), f.spec("M3", "T", 16), f.spec("M1", "T", 24), f.spec("D0", "T", 16)}},
		{hsm.MasterSpec{Algorithm: "T", Length: 16, Bare: true}, []hsm.SessionKeySpec{f.spec("P0", "T", 16), f.spec("M1", "T", 16), f.spec("D0", "T", 16)}},
		{hsm.MasterSpec{Algorithm: "A", Length: 32, Bare: true}, []hsm.SessionKeySpec{f.spec("P0", "A", 16), f.spec("M6", "A", 32), f.spec("D0", "A", 32)}},
	} {
		terminal := fmt.Sprintf("t-%d", i)
		h := f.injected(terminal, c.master)
		made, err := f.client.MakeSessionKeys(t.Context(), h.master(), c.specs)
		f.must(err)
		for n, k := range made {
			spec := c.specs[n]
			value := f.sessionValue(h, &k, &spec)
			if check := f.checkValue(spec.Algorithm, value); check != k.CheckValue {
				t.Errorf("%s %s: check value %s, it says %s", terminal, spec.Name, check, k.CheckValue)
			}
			parsed, err := hsm.ParseSealed(k.Sealed)
			f.must(err)
			key := hsm.Key{Name: "terminal:" + terminal + ":" + spec.Name, Sealed: k.Sealed}
			if parsed.Header.Name != key.Name || parsed.Header.Device != h.record.Device || parsed.Header.NotAfter != spec.NotAfter || parsed.Header.Version != 1 {
				t.Errorf("%+v", parsed.Header)
			}
			f.works(key, &spec, value)
		}
	}
}

// sessionValue is a session key as the terminal has it.
func (f *factory) sessionValue(h *has, k *hsm.SessionKey, spec *hsm.SessionKeySpec) []byte {
	f.t.Helper()
	master := h.record.Keys[0]
	if master.Usage == "K0" {
		if k.KeyBlock != "" || len(k.Cryptogram) != spec.Length {
			f.t.Fatalf("%s: a cryptogram of %d bytes, a block %q", spec.Name, len(k.Cryptogram), k.KeyBlock)
		}
		value := make([]byte, spec.Length)
		decrypt, block := f.decrypter(master.Algorithm, h.values[0])
		for at := 0; at < len(value); at += block {
			decrypt(value[at:], k.Cryptogram[at:])
		}
		return value
	}
	if k.Cryptogram != nil {
		f.t.Errorf("%s: a bare cryptogram under a key block protection key", spec.Name)
	}
	block, value := f.opened(master.Algorithm, h.values[0], k.KeyBlock)
	mode := map[string]byte{"P0": 'E', "D0": 'B'}[spec.Usage]
	if mode == 0 {
		mode = 'C'
	}
	if b := block.Header; b.Usage != spec.Usage || string(b.Algorithm) != spec.Algorithm || b.Mode != mode || b.Exportability != 'N' || len(value) != spec.Length {
		f.t.Errorf("%s: %s", spec.Name, block.HeaderText)
	}
	return value
}

func (f *factory) decrypter(algorithm string, key []byte) (func(dst, src []byte), int) {
	f.t.Helper()
	if algorithm == "A" {
		c, err := aes.NewCipher(key)
		f.must(err)
		return c.Decrypt, aes.BlockSize
	}
	c, err := des.NewTripleDESCipher(append(bytes.Clone(key), key[:24-len(key)]...))
	f.must(err)
	return c.Decrypt, des.BlockSize
}

// works uses a session key as others do.
func (f *factory) works(k hsm.Key, spec *hsm.SessionKeySpec, value []byte) {
	f.t.Helper()
	ctx, text := f.t.Context(), []byte("a message of a terminal")
	switch spec.Usage {
	case "M1", "M3", "M6":
		mac := hsm.MACKey{Key: k, Algorithm: map[string]hsm.MACAlgorithm{"M1": hsm.MACAlgorithm1, "M3": hsm.MACAlgorithm3, "M6": hsm.CMAC}[spec.Usage], Padding: 1}
		made, err := f.client.GenerateMAC(ctx, hsm.GenerateMAC{Key: mac, Message: text})
		f.must(err)
		if spec.Usage == "M6" && !bytes.Equal(made.MAC, f.mac(spec.Algorithm, value, text)) {
			f.t.Errorf("%s makes another MAC than the terminal", k.Name)
		}
		verified, err := f.client.VerifyMAC(ctx, hsm.VerifyMAC{Key: mac, Message: text, MAC: made.MAC})
		if err != nil || !verified.Verified {
			f.t.Errorf("%s: %v", k.Name, err)
		}
	case "D0":
		size := map[string]int{"T": 8, "A": 16}[spec.Algorithm]
		_, err := f.client.EncryptData(ctx, hsm.EncryptData{Key: hsm.DataKey{Key: k, Mode: hsm.CBC}, Data: make([]byte, 32), IV: make([]byte, size)})
		f.must(err)
		_, err = f.client.EncryptData(ctx, hsm.EncryptData{Key: hsm.DataKey{Key: k, Mode: hsm.CTR}, Data: make([]byte, 32), IV: make([]byte, size)})
		if err == nil {
			f.t.Errorf("%s enciphers in CTR", k.Name)
		}
	}
}

// PINs come from terminals, go where the host's peers are, and never to terminals.
func TestPINsUnderSessionKeys(t *testing.T) {
	f := newFactory(t)
	h := f.injected("t-1", hsm.MasterSpec{Algorithm: "A", Length: 32})
	made, err := f.client.MakeSessionKeys(t.Context(), h.master(), []hsm.SessionKeySpec{f.spec("P0", "T", 16), f.spec("D0", "T", 16)})
	f.must(err)
	spec := f.spec("P0", "T", 16)
	value := f.sessionValue(h, &made[0], &spec)
	pin := hsm.PINKey{Key: hsm.Key{Name: "terminal:t-1:" + spec.Name, Sealed: made[0].Sealed}, Format: hsm.Format0}
	out := hsm.PINKey{Key: f.created(zone("issuer", func(k *ceremony.KeySpec) { k.Peers = []string{"acquirer"} })), Format: hsm.Format0}
	foreign := hsm.PINKey{Key: f.created(zone("foreign", func(k *ceremony.KeySpec) { k.Peers = []string{"elsewhere"} })), Format: hsm.Format0}
	const pan = "4012345678909"
	block := pinBlock(t, hex.EncodeToString(value), "1234", pan)
	translate := func(in, out hsm.PINKey) error {
		_, err := f.client.TranslatePIN(t.Context(), hsm.TranslatePIN{Incoming: in, Outgoing: out, PAN: pan, Block: block})
		return err
	}
	f.must(translate(pin, out))
	f.refused(translate(pin, foreign), fault.TranslationForbidden)
	f.refused(translate(out, pin), fault.KeyUsageMismatch)
	iso1 := pin
	iso1.Format = hsm.Format1
	f.refused(translate(iso1, out), fault.KeyUsageMismatch)
	f.refused(translate(hsm.PINKey{Key: hsm.Key{Name: "terminal:t-2:" + spec.Name, Sealed: made[0].Sealed}, Format: hsm.Format0}, out), fault.KeySealInvalid)
	f.refused(translate(hsm.PINKey{Key: hsm.Key{Name: "terminal:t-1:" + f.spec("D0", "T", 16).Name, Sealed: made[1].Sealed}, Format: hsm.Format0}, out), fault.KeyUsageMismatch)
	f.refused(translate(hsm.PINKey{Key: h.master(), Format: hsm.Format0}, out), fault.KeyUsageMismatch)
	// Its end is the module's to tell.
	f.now = time.Unix(spec.NotAfter-1, 0)
	f.must(translate(pin, out))
	f.now = time.Unix(spec.NotAfter, 0)
	f.refused(translate(pin, out), fault.KeyDisabled)
}

func TestSessionKeysThatAreRefused(t *testing.T) {
	f := newFactory(t)
	tdes, aesMaster := f.injected("t-1", hsm.MasterSpec{Algorithm: "T", Length: 16}), f.injected("t-2", hsm.MasterSpec{Algorithm: "A", Length: 16})
	bare, bareAES := f.injected("t-3", hsm.MasterSpec{Algorithm: "T", Length: 24, Bare: true}), f.injected("t-4", hsm.MasterSpec{Algorithm: "A", Length: 32, Bare: true})
	officers := f.created(&ceremony.KeySpec{Name: "kbpk", Version: 1, Usage: "K1", Algorithm: "A", Length: 32, Mode: "E", Exportability: "N"})
	with := func(usage, algorithm string, length int, change ...func(*hsm.SessionKeySpec)) []hsm.SessionKeySpec {
		s := f.spec(usage, algorithm, length)
		s.Name = "pin"
		for _, c := range change {
			c(&s)
		}
		return []hsm.SessionKeySpec{s}
	}
	named := func(name string) []hsm.SessionKeySpec {
		return with("P0", "T", 16, func(s *hsm.SessionKeySpec) { s.Name = name })
	}
	until := func(seconds int64) []hsm.SessionKeySpec {
		return with("P0", "T", 16, func(s *hsm.SessionKeySpec) { s.NotAfter = f.now.Unix() + seconds })
	}
	for name, c := range map[string]struct {
		master hsm.Key
		specs  []hsm.SessionKeySpec
		want   fault.Reason
	}{
		"none":                          {tdes.master(), nil, fault.RequestInvalid},
		"nine":                          {tdes.master(), slices.Repeat(with("P0", "T", 16), 9), fault.RequestInvalid},
		"two of one name":               {tdes.master(), slices.Repeat(with("P0", "T", 16), 2), fault.RequestInvalid},
		"no name":                       {tdes.master(), named(""), fault.RequestInvalid},
		"a name in upper case":          {tdes.master(), named("PIN"), fault.RequestInvalid},
		"a name that goes on":           {tdes.master(), named("pin:x"), fault.RequestInvalid},
		"the name of the master key":    {tdes.master(), named("master"), fault.RequestInvalid},
		"the name of the receipt key":   {tdes.master(), named("receipt"), fault.RequestInvalid},
		"a long name":                   {tdes.master(), named("abcdefghijklmnopq"), fault.RequestInvalid},
		"no version":                    {tdes.master(), with("P0", "T", 16, func(s *hsm.SessionKeySpec) { s.Version = 0 }), fault.RequestInvalid},
		"no end":                        {tdes.master(), with("P0", "T", 16, func(s *hsm.SessionKeySpec) { s.NotAfter = 0 }), fault.RequestInvalid},
		"an end that is past":           {tdes.master(), until(0), fault.RequestInvalid},
		"an end after nine days":        {tdes.master(), until(8*86400 + 1), fault.RequestInvalid},
		"single DES":                    {tdes.master(), with("P0", "T", 8), fault.KeyUsageMismatch},
		"a base derivation key":         {tdes.master(), with("B0", "T", 16), fault.KeyUsageMismatch},
		"a key block protection key":    {tdes.master(), with("K1", "T", 16), fault.KeyUsageMismatch},
		"a verification key":            {tdes.master(), with("V2", "T", 16), fault.KeyUsageMismatch},
		"HMAC":                          {aesMaster.master(), with("M7", "H", 32), fault.KeyUsageMismatch},
		"retail MAC with AES":           {aesMaster.master(), with("M3", "A", 16), fault.KeyUsageMismatch},
		"retail MAC of three parts":     {aesMaster.master(), with("M3", "T", 24), fault.KeyUsageMismatch},
		"no algorithm":                  {aesMaster.master(), with("P0", "", 16), fault.KeyUsageMismatch},
		"two algorithms":                {aesMaster.master(), with("P0", "TA", 16), fault.KeyUsageMismatch},
		"AES under TDES":                {tdes.master(), with("P0", "A", 16), fault.ExportForbidden},
		"three parts under two":         {tdes.master(), with("P0", "T", 24), fault.ExportForbidden},
		"AES-256 under AES-128":         {aesMaster.master(), with("D0", "A", 32), fault.ExportForbidden},
		"AES under a bare TDES key":     {bare.master(), with("P0", "A", 16), fault.ExportForbidden},
		"TDES under a bare AES key":     {bareAES.master(), with("P0", "T", 16), fault.KeyUsageMismatch},
		"AES-192 under a bare AES key":  {bareAES.master(), with("D0", "A", 24), fault.KeyUsageMismatch},
		"under a key of officers":       {officers, with("P0", "A", 16), fault.KeyUsageMismatch},
		"under a receipt key":           {f.receipt(tdes).ReceiptKey, with("P0", "T", 16), fault.KeyUsageMismatch},
		"under another terminal's name": {hsm.Key{Name: "terminal:t-9:master", Sealed: tdes.given.Master}, with("P0", "T", 16), fault.KeySealInvalid},
		"under a key pair":              {f.key("host", 1), with("P0", "T", 16), fault.KeyUsageMismatch},
		"under what is no key":          {hsm.Key{Name: "terminal:t-1:master", Sealed: tdes.given.Record}, with("P0", "T", 16), fault.KeySealInvalid},
		"one good and one that is weak": {tdes.master(), append(with("P0", "T", 16), hsm.SessionKeySpec{Name: "data", Usage: "D0", Algorithm: "A", Length: 16, Version: 1, NotAfter: f.now.Unix() + 60}), fault.ExportForbidden},
	} {
		made, err := f.client.MakeSessionKeys(t.Context(), c.master, c.specs)
		if err == nil || made != nil || fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	// The shortest and the longest.
	for _, specs := range [][]hsm.SessionKeySpec{until(1), until(8 * 86400)} {
		_, err := f.client.MakeSessionKeys(t.Context(), tdes.master(), specs)
		f.must(err)
	}
}
