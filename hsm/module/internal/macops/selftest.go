package macops

import (
	"encoding/hex"
	"errors"

	"keyd/dukpt/software"
)

// SelfTest works known answers of what this package computes itself: ISO 9797-1:2011 annex
// B.4 for algorithm 3, NIST SP 800-38B appendix D for CMAC with two-key TDES. Algorithm 1 is
// a part of both. The module calls it before its first request, and ends on an error.
func SelfTest() error {
	var key, left software.TDESKey
	var mac [tdesBlock]byte
	message := []byte("Now is the time for it")
	if err := errors.Join(
		key.Set(fromHex("0123456789ABCDEFFEDCBA9876543210")),
		left.Set(fromHex("0123456789ABCDEF0123456789ABCDEF"))); err != nil {
		return err
	}
	algorithm3(&mac, &key, &left, padded(message, 1))
	if hex.EncodeToString(mac[:4]) != "2e2b1428" {
		return errors.New("self-test of ISO 9797-1 algorithm 3 failed")
	}
	if err := key.Set(fromHex("0123456789ABCDEF23456789ABCDEF01")); err != nil {
		return err
	}
	for text, want := range map[string]string{
		"":                                 "79ce52a7f786a960",
		"6BC1BEE22E409F96E93D7E117393172A": "cc18a0b79af2413b",
		"6BC1BEE22E409F96E93D7E117393172AAE2D8A57": "c06d377ecd101969",
	} {
		cmac(&mac, &key, fromHex(text))
		if hex.EncodeToString(mac[:]) != want {
			return errors.New("self-test of CMAC with TDES failed")
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
