package macops

import (
	"bytes"
	"encoding/hex"
	"errors"

	"keyd/dukpt/software"
)

const retailKey = "0123456789ABCDEFFEDCBA9876543210"

// known are known answers, in hex: ISO 9797-1:2011 annex B.4 for algorithm 3, NIST SP 800-38B
// appendix D for CMAC with two-key TDES. Algorithm 1 is a part of both.
var known = []struct{ key, message, mac string }{
	{retailKey, "4E6F77206973207468652074696D6520666F72206974", "2E2B1428"},
	{"0123456789ABCDEF23456789ABCDEF01", "", "79CE52A7F786A960"},
	{"0123456789ABCDEF23456789ABCDEF01", "6BC1BEE22E409F96E93D7E117393172A", "CC18A0B79AF2413B"},
	{"0123456789ABCDEF23456789ABCDEF01", "6BC1BEE22E409F96E93D7E117393172AAE2D8A57", "C06D377ECD101969"},
}

// SelfTest works known answers of what this package computes itself. The module calls it
// before its first request, and ends on an error.
func SelfTest() error {
	var key, left software.TDESKey
	var mac [tdesBlock]byte
	for i, k := range known {
		value, message := fromHex(k.key), fromHex(k.message)
		if err := key.Set(value); err != nil {
			return err
		}
		if err := left.Set(append(value[:8:8], value[:8]...)); err != nil {
			return err
		}
		if i == 0 {
			algorithm3(&mac, &key, &left, padded(message, 1))
		} else {
			cmac(&mac, &key, message)
		}
		if want := fromHex(k.mac); !bytes.Equal(mac[:min(len(want), len(mac))], want) {
			return errors.New("self-test of MACs with TDES failed")
		}
	}
	return nil
}

func fromHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return b
}
