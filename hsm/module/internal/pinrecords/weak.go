package pinrecords

import (
	"crypto/subtle"
	"strings"

	"keyd/hsm/module/internal/erase"
	"keyd/pinblock"
	"keyd/pinrecord"
)

// wellKnown are PINs that others guess first, besides those that follow a rule: what a machine was
// delivered with, keys beside or below each other, dates and numbers that are said for luck or love.
var wellKnown = strings.Fields(`
0070 0420 0852 1004 1008 1024 1379 1397 1478 1590 1688 1998 2001 2020 2008 2580 3690 5201 5200 5683 6688 6969 7410 7531 8520 8686 8888 9510 9630
01230 12580 13579 14789 24680 52013 66888 88666 98789
001234 001122 002580 010101 010203 012345 019283 080808 100200 100100 101112 102030 102938 110110 112211 112233 112358 119119 120120 121314
123000 123321 123400 123450 123412 123432 123454 123455 123465 123567 123654 123698 123789 123987 124578 125125 125800 131313 131420 135246 135790 135791
142536 142857 147258 147369 147852 147896 147963 148635 159159 159263 159357 159487 159753 159874 163163 168168 168888 170845 198888 200000 200888
223344 246810 250250 251314 258000 258025 258369 258456 258852 271828 314159 321000 321654 334455 357159 369258 369369 369852 371937 445566 456123 456654 456852
518518 520131 520184 520530 520999 521131 521314 556677 584131 584520 654123 666888 667788 668800 668866 686868 688688 696969 741852 753159 753951
778899 786786 789123 789456 789654 789987 800000 852147 852456 852963 866866 881688 886688 886886 888000 888168 888666 888999 900000 951753 951357 963852 963741 987321 987456 988988 998877 999000
1314520 1314521 1472583 1472589 1593572 1234321 1234566 1234569 1357924 2580258 5201314 5211314 7758258 7758521 9876543
11223344 12341234 12344321 12345679 12345687 13145200 13572468 14725836 14789632 19491001 20000000 20080808 24681357 52013140 52013141 77582580 80808080 87654321 88888866 98765432
123456123 123456788 147258369 147852369 159357258 258258258 369258147 741852963 789456123 963852741 987654321
1122334455 1234512345 1234554321 1234567891 1314521520 5201314520 0987654321 7894561230 1472583690
11223344556 12345678910 12345678901 112233445566 123456654321 123456123456 123456789012 147258369147`)

// weak reports whether a PIN is one that others guess: well known, the same digits again and again,
// an even run, or digits of its own subject, whose number is no secret. Whether it is too short is
// not looked at. Its length is no secret, and nothing else shows in the time.
func weak(pin *pinblock.PIN, subject *pinrecord.Subject) bool {
	n := pin.Len()
	var known []string // of that length
	for _, w := range wellKnown {
		if len(w) == n {
			known = append(known, w)
		}
	}
	for _, text := range []string{subject.Number(), digitsOf(subject.Merchant), digitsOf(subject.Terminal), digitsOf(subject.Name), digitsOf(subject.Merchant + subject.Terminal), digitsOf(subject.Merchant + subject.Name), digitsOf(subject.Merchant + subject.Terminal + subject.Name)} {
		if text != "" && len(text) < n {
			text = strings.Repeat("0", n-len(text)) + text
		}
		for at := 0; at+n <= len(text); at++ {
			known = append(known, text[at:at+n])
		}
	}
	found := 0
	erase.Do(func() {
		var all [pinblock.MaxPINLen]byte
		for i := range all {
			all[i] = pin.Digit(i)
		}
		d := all[:n]
		for period := 1; period <= n/2; period++ {
			found |= repeats(d, period)
		}
		for _, together := range []int{2, 3} {
			if n%together == 0 {
				found |= grouped(d, together)
			}
		}
		found |= runs(d)
		for _, text := range known {
			found |= is(d, text)
		}
		clear(all[:])
	})
	return found == 1
}

// digitsOf returns the decimal digits of a text.
func digitsOf(text string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, text)
}

// repeats returns 1 if each digit is the one a period before it.
func repeats(d []byte, period int) int {
	same := 1
	for i := period; i < len(d); i++ {
		same &= subtle.ConstantTimeByteEq(d[i], d[i-period])
	}
	return same
}

// grouped returns 1 if digits come in groups of equal ones: 112233.
func grouped(d []byte, together int) int {
	same := 1
	for i := range d {
		same &= subtle.ConstantTimeByteEq(d[i], d[i-i%together])
	}
	return same
}

// runs returns 1 if each digit is as far from the one before it as the next, 0 following on 9.
func runs(d []byte) int {
	even := 1
	for i := 2; i < len(d); i++ {
		even &= tenth(int(d[i]) + int(d[i-2]) - 2*int(d[i-1]) + 20)
	}
	return even
}

// tenth returns 1 for a multiple of 10 from 0 to 40.
func tenth(v int) int {
	m := 0
	for k := 0; k <= 40; k += 10 {
		m |= subtle.ConstantTimeEq(int32(v), int32(k))
	}
	return m
}

// is returns 1 if the digits are those of a text, which is as long.
func is(d []byte, text string) int {
	same := 1
	for i := range d {
		same &= subtle.ConstantTimeByteEq(d[i], text[i]-'0')
	}
	return same
}
