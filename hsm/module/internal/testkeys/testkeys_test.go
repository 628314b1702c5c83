package testkeys_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"keyd/hsm/module/internal/testkeys"
)

const good = `{"name":"k","usage":"P0","algorithm":"T","mode_of_use":"B","value":"00112233445566778899AABBCCDDEEFF"}`

func TestReadTakesTheContractsForm(t *testing.T) {
	entries, err := testkeys.Read(strings.NewReader(`[
		{"name":"zone_1","usage":"P0","algorithm":"A","mode_of_use":"N","value":"00112233445566778899aabbccddeeff","formats":["ISO_FORMAT_4"],"direction":"incoming","peers":["visa"],"ksn":"off"},
		{"name":"hmac","usage":"M7","algorithm":"H","mode_of_use":"C","value":"` + strings.Repeat("00", 20) + `"},
		{"name":"pvk","usage":"V1","algorithm":"T","mode_of_use":"V","value":"0123456789ABCDEFFEDCBA9876543210",
		 "ibm3624":{"decimalization_table":"0123456789012345","validation_start":0,"validation_length":12,"validation_pad":"f"}},
		{"name":"records","usage":"B0","algorithm":"A","mode_of_use":"X","value":"0123456789ABCDEFFEDCBA9876543210","pin_kind":"record"},
		{"name":"datum","usage":"V0","algorithm":"A","mode_of_use":"C","value":"0123456789ABCDEFFEDCBA9876543211"}]`))
	if err != nil || len(entries) != 5 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	h, err := entries[0].Header()
	if err != nil || h.Name != "zone_1" || h.Direction != "incoming" || len(h.Peers) != 1 || len(h.Formats) != 1 || h.Formats[0] != 4 {
		t.Errorf("%+v, %v", h, err)
	}
	h, err = entries[2].Header()
	if err != nil || h.IBM3624 == nil || h.IBM3624.Pad != "F" || h.Direction != "both" || h.Peers[0] != "*" {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err = entries[3].Header(); err != nil || !h.CarriesRecords() {
		t.Errorf("%+v, %v", h, err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", entries[2].Value, entries[2].Value, entries[2].Value, entries[2].Value); strings.Contains(text, "CDEF") || strings.Contains(text, "205") {
		t.Errorf("a value prints: %s", text)
	}
}

func TestReadSaysWhatToMendAndNoValue(t *testing.T) {
	change := func(old, fresh string) string { return "[" + strings.Replace(good, old, fresh, 1) + "]" }
	for name, c := range map[string]struct{ file, want string }{
		"no JSON":             {"{", "not a JSON array"},
		"an object":           {good, "not a JSON array"},
		"unknown field":       {change(`"usage"`, `"usages"`), `unknown field "usages"`},
		"wrong type":          {change(`"P0"`, `5`), `"usage"`},
		"no name":             {change(`"k"`, `""`), `"name"`},
		"a name with a star":  {change(`"k"`, `"k*"`), `"name"`},
		"a terminal's name":   {change(`"k"`, `"terminal:t-1:pin"`), `"name"`},
		"unknown usage":       {change(`"P0"`, `"D1"`), `"usage"`},
		"algorithm of usage":  {change(`"T"`, `"H"`), `"algorithm"`},
		"mode of usage":       {change(`"B"`, `"V"`), `"mode_of_use"`},
		"single DES":          {change(`00112233445566778899AABBCCDDEEFF`, `0011223344556677`), "single DES"},
		"odd hex":             {change(`00112233445566778899AABBCCDDEEFF`, `001`), "hex digits"},
		"no hex":              {change(`00112233445566778899AABBCCDDEEFF`, `zz`), "hex digits"},
		"unknown direction":   {change(`"value"`, `"direction":"up","value"`), `"direction"`},
		"ISO-2":               {change(`"value"`, `"formats":["ISO_FORMAT_2"],"value"`), `"formats"`},
		"unknown KSN rule":    {change(`"value"`, `"ksn":"sometimes","value"`), `"ksn"`},
		"unknown PINs":        {change(`"value"`, `"pin_kind":"phone","value"`), `"pin_kind"`},
		"PINs of a data key":  {change(`"P0"`, `"D0","pin_kind":"record"`), `"pin_kind"`},
		"a TDES datum key":    {change(`"P0","algorithm":"T","mode_of_use":"B"`, `"V0","algorithm":"T","mode_of_use":"C"`), `"algorithm"`},
		"V1 without its rule": {change(`"P0","algorithm":"T","mode_of_use":"B"`, `"V1","algorithm":"T","mode_of_use":"V"`), `"ibm3624"`},
		"P0 with a rule":      {change(`"value"`, `"ibm3624":{},"value"`), `"ibm3624"`},
		"twice one name":      {"[" + good + "," + good + "]", "stands in entry 1 already"},
	} {
		entries, err := testkeys.Read(strings.NewReader(c.file))
		if !errors.Is(err, testkeys.ErrFile) || entries != nil {
			t.Errorf("%s: %v, %v", name, entries, err)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not say %q", name, err, c.want)
		}
		if strings.Contains(err.Error(), "0011") || strings.Contains(err.Error(), "AABB") {
			t.Errorf("%s: the error holds the value: %q", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("[" + good + "]"))
	f.Add([]byte(`[{"name":"pvk","usage":"V1","algorithm":"T","mode_of_use":"V","value":"","ibm3624":{"validation_start":0}}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := testkeys.Read(strings.NewReader(string(b)))
		if err != nil && entries != nil {
			t.Error("entries beside an error")
		}
		for i := range entries {
			if _, err := entries[i].Header(); err != nil {
				t.Errorf("an accepted entry has no header: %v", err)
			}
		}
	})
}
