package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

// testKey is a known key in the form of keyd dev --keys.
type testKey struct {
	Name      string `json:"name"`
	Usage     string `json:"usage"`
	Algorithm string `json:"algorithm"`
	Mode      string `json:"mode_of_use"`
	Value     string `json:"value"`
	Direction string `json:"direction,omitempty"`
	PINKind   string `json:"pin_kind,omitempty"`
	KSN       string `json:"ksn,omitempty"`
}

// The keys of every load. Those that end in unchecked leave KSNs alone, for comparison.
const (
	bdkTDES          = "bench-bdk-tdes"
	bdkTDESUnchecked = "bench-bdk-tdes-unchecked"
	bdkAES           = "bench-bdk-aes"
	bdkAESUnchecked  = "bench-bdk-aes-unchecked"
	zoneIn           = "bench-zone-in"
	zoneOut          = "bench-zone-out"
	pvk              = "bench-pvk"
	bdkTDESRecords   = "bench-bdk-tdes-records" // for PINs of PIN records
	bdkAESRecords    = "bench-bdk-aes-records"
)

// keyValue returns the value of a key, 16 bytes that follow from its name: a load knows
// the keys of a service without keeping 100,000 of them.
func keyValue(name string) []byte {
	digest := sha256.Sum256([]byte("keyd bench key: " + name))
	return digest[:16]
}

// fixedKeys returns the keys of every load.
func fixedKeys(ksn string) []testKey {
	keys := []testKey{
		{Name: bdkTDES, Usage: "B0", Algorithm: "T", Mode: "X", Direction: "incoming", KSN: ksn},
		{Name: bdkTDESUnchecked, Usage: "B0", Algorithm: "T", Mode: "X"},
		{Name: bdkAES, Usage: "B0", Algorithm: "A", Mode: "X", Direction: "incoming", KSN: ksn},
		{Name: bdkAESUnchecked, Usage: "B0", Algorithm: "A", Mode: "X"},
		{Name: zoneIn, Usage: "P0", Algorithm: "T", Mode: "D"},
		{Name: zoneOut, Usage: "P0", Algorithm: "T", Mode: "E"},
		{Name: pvk, Usage: "V2", Algorithm: "T", Mode: "V"},
		{Name: bdkTDESRecords, Usage: "B0", Algorithm: "T", Mode: "X", Direction: "incoming", PINKind: "record", KSN: ksn},
		{Name: bdkAESRecords, Usage: "B0", Algorithm: "A", Mode: "X", Direction: "incoming", PINKind: "record", KSN: ksn},
	}
	for i := range keys {
		keys[i].Value = hex.EncodeToString(keyValue(keys[i].Name))
	}
	return keys
}

// zoneName is the name of one zone key of many.
func zoneName(i int) string { return fmt.Sprintf("bench-zone-%06d", i) }

// zoneKeys returns n zone keys that encipher and decipher.
func zoneKeys(n int) []testKey {
	keys := make([]testKey, n)
	for i := range keys {
		name := zoneName(i)
		keys[i] = testKey{Name: name, Usage: "P0", Algorithm: "T", Mode: "B", Value: hex.EncodeToString(keyValue(name))}
	}
	return keys
}

func writeKeys(path string, keys []testKey) error {
	b, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write the file of test keys: %w", err)
	}
	return nil
}
