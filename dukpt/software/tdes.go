package software

import (
	"encoding/binary"

	"keyd/dukpt"
	"keyd/dukpt/software/internal/des"
)

// TDESKeySize is the length in bytes of every key of the TDES scheme: BDK, initial key, transaction key and
// working keys.
const TDESKeySize = 16

// keyMask is the half of [dukpt.TDESInitialKeyMask]; maskSchedule its key schedule, which turns that of a key
// into that of the masked key.
const keyMask = 0xC0C0C0C000000000

var maskSchedule = func() (s des.Schedule) {
	s.Expand(keyMask)
	return s
}()

// TDESInitialKey derives the 16-byte initial key of the KSN's device from the 16-byte BDK into dst
// (X9.24-1:2009 A.6). The KSN's counter does not matter. dst may be bdk. It returns [ErrScheme],
// [ErrKeySize] or [ErrOutputSize]. Host only. Where a token holds the BDK it does the same with two
// encryptions; see [dukpt.TDESInitialKeyMask].
func TDESInitialKey(dst, bdk []byte, ksn dukpt.KSN) error {
	if err := checkTDES(dst, bdk, ksn); err != nil {
		return err
	}
	id := ksn.InitialKeyID()
	block := binary.BigEndian.Uint64(id[:])
	var k des.Triple
	k.Expand(bdk)
	left := k.Encrypt(block)
	for i := range k {
		for j := range k[i] {
			k[i][j] ^= maskSchedule[j]
		}
	}
	right := k.Encrypt(block)
	clear(k[:])
	binary.BigEndian.PutUint64(dst, left)
	binary.BigEndian.PutUint64(dst[8:], right)
	return nil
}

// TDESTransactionKey derives the 16-byte key of the KSN's transaction from the 16-byte initial key into dst
// (X9.24-1:2009 A.3): one step of the non-reversible key generation per one-bit of the counter, from the
// left. It is never used itself; [TDESWorkingKey] makes working keys of it. dst may be ik. It returns
// [ErrScheme], [ErrKeySize], [ErrOutputSize] or [dukpt.ErrKSNCounterZero]. Host only: a terminal does not
// keep its initial key.
func TDESTransactionKey(dst, ik []byte, ksn dukpt.KSN) error {
	if err := checkTDES(dst, ik, ksn); err != nil {
		return err
	}
	counter := uint64(ksn.Counter())
	if counter == 0 {
		return dukpt.ErrKSNCounterZero
	}
	register := tdesRegister(ksn)
	left, right := binary.BigEndian.Uint64(ik), binary.BigEndian.Uint64(ik[8:])
	var s des.Schedule
	for bit := uint64(1) << (dukpt.TDESCounterBits - 1); bit != 0; bit >>= 1 {
		if counter&bit != 0 {
			register |= bit
			left, right = generateKey(&s, left, right, register)
		}
	}
	clear(s[:])
	binary.BigEndian.PutUint64(dst, left)
	binary.BigEndian.PutUint64(dst[8:], right)
	return nil
}

// TDESWorkingKey makes the 16-byte working key of a variant from a 16-byte transaction key into dst
// (X9.24-1:2009 A.4.1): the exclusive or with the variant's mask, and for data keys the one-way function,
// both halves of the variant key enciphered under the whole of it. dst may be transactionKey. It returns
// [ErrVariant], [ErrKeySize] or [ErrOutputSize]. Both sides.
func TDESWorkingKey(dst, transactionKey []byte, v dukpt.Variant) error {
	switch {
	case !v.Valid():
		return ErrVariant
	case len(transactionKey) != TDESKeySize:
		return ErrKeySize
	case len(dst) != TDESKeySize:
		return ErrOutputSize
	}
	mask := v.Mask()
	for i := range mask {
		dst[i] = transactionKey[i] ^ mask[i]
	}
	if v.OneWay() {
		var k des.Triple
		k.Expand(dst)
		binary.BigEndian.PutUint64(dst, k.Encrypt(binary.BigEndian.Uint64(dst)))
		binary.BigEndian.PutUint64(dst[8:], k.Encrypt(binary.BigEndian.Uint64(dst[8:])))
		clear(k[:])
	}
	return nil
}

// generateKey is the non-reversible key generation process (X9.24-1:2009 A.2). Each half of the new key is
// the register, masked before and after single DES under the left half by the right half; the new left
// half does it with the masked key. s is scratch, to be cleared by the caller.
func generateKey(s *des.Schedule, left, right, register uint64) (newLeft, newRight uint64) {
	s.Expand(left)
	maskedRight := right ^ keyMask
	newRight, newLeft = s.EncryptPair(&maskSchedule, register^right, register^maskedRight)
	return newLeft ^ maskedRight, newRight ^ right
}

// tdesRegister returns the rightmost 8 bytes of the KSN without its counter.
func tdesRegister(ksn dukpt.KSN) uint64 {
	var b [dukpt.TDESKSNSize]byte
	ksn.AppendBytes(b[:0])
	return binary.BigEndian.Uint64(b[2:]) &^ (1<<dukpt.TDESCounterBits - 1)
}

func checkTDES(dst, key []byte, ksn dukpt.KSN) error {
	switch {
	case ksn.Scheme() != dukpt.TDES:
		return ErrScheme
	case len(key) != TDESKeySize:
		return ErrKeySize
	case len(dst) != TDESKeySize:
		return ErrOutputSize
	}
	return nil
}
