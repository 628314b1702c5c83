package main

import (
	"encoding/hex"
	"testing"

	"keyd/dukpt/software"
)

func TestPVVIsVisas(t *testing.T) {
	key, err := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	if err != nil {
		t.Fatal(err)
	}
	var k software.TDESKey
	if err := k.Set(key); err != nil {
		t.Fatal(err)
	}
	// The PVV that the module's own tests know for this card.
	if got := pvv(&k, [16]byte([]byte("5432101234567890")), [4]byte([]byte("1234"))); string(got[:]) != "6776" {
		t.Errorf("PVV %s, want 6776", got)
	}
	for _, v := range []string{"0000", "9999", "0042"} {
		if got := another([4]byte([]byte(v))); string(got[:]) == v {
			t.Errorf("another PVV than %s is %s", v, got)
		}
	}
}

// Letters of the result are used, less ten, when it has too few digits. Random keys
// reach that: the result must be the one of the two passes written out.
func TestPVVTakesLettersLast(t *testing.T) {
	second := 0
	for card := range uint32(20_000) {
		var k software.TDESKey
		if err := k.Set(keyValue(zoneName(int(card)))); err != nil {
			t.Fatal(err)
		}
		account, digits := pan(card), pin(card)
		text := string(account[4:15]) + "1" + string(digits[:])
		block, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		k.Encrypt(block, block)
		var want []byte
		for _, c := range hex.EncodeToString(block) {
			if c <= '9' {
				want = append(want, byte(c))
			}
		}
		if len(want) < 4 {
			second++
		}
		for _, c := range hex.EncodeToString(block) {
			if c > '9' {
				want = append(want, byte('0'+c-'a'))
			}
		}
		if got := pvv(&k, account, digits); string(got[:]) != string(want[:4]) {
			t.Fatalf("%x: PVV %s, want %s", block, got, want[:4])
		}
	}
	if second == 0 {
		t.Error("no result had too few digits: the second pass was not tried")
	}
}

func TestPANsHaveTheirCheckDigit(t *testing.T) {
	for _, card := range []uint32{0, 1, 9, 123456789, 999_999_999} {
		account := pan(card)
		sum := 0
		for i := range account { // from the right, every second digit doubled
			d := int(account[len(account)-1-i] - '0')
			if i%2 == 1 {
				d = d*2/10 + d*2%10
			}
			sum += d
		}
		if sum%10 != 0 {
			t.Errorf("PAN of card %d has a wrong check digit", card)
		}
	}
	if pan(1) == pan(2) || pin(1) == pin(2) && pin(2) == pin(3) {
		t.Error("cards are alike")
	}
}

func TestEveryCardHasItsTurn(t *testing.T) {
	c := &cards{number: 1000}
	drawn := make(map[uint32]int)
	for range 3000 {
		drawn[c.draw()]++
	}
	for card := range uint32(1000) {
		if drawn[card] != 3 {
			t.Fatalf("card %d was drawn %d times of 3000, want 3", card, drawn[card])
		}
	}
}
