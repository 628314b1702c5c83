package software

import (
	"crypto/aes"

	"keyd/dukpt"
)

// maxKeySize is the length of the longest key of the AES scheme.
const maxKeySize = 32

// AESDerive walks a path from key, the BDK or initial key that it starts from, and writes the key at its end
// into dst (X9.24-3:2017). key has path.Root().Size() bytes, dst has path.Key().Size() bytes; dst may be
// key. It returns [ErrScheme] for the empty path, [ErrKeySize] or [ErrOutputSize]. Both sides.
func AESDerive(dst, key []byte, path dukpt.Path) error {
	switch {
	case path.Len() == 0:
		return ErrScheme
	case len(key) != path.Root().Size():
		return ErrKeySize
	case len(dst) != path.Key().Size():
		return ErrOutputSize
	}
	var current [maxKeySize]byte
	defer clear(current[:])
	n := copy(current[:], key)
	for i := range path.Len() {
		step := path.Step(i)
		if err := deriveStep(&current, n, &step); err != nil {
			return err
		}
		n = step.Key.Size()
	}
	copy(dst, current[:n])
	return nil
}

// AESDeriveStep does one step of a path: dst, of step.Key.Size() bytes, becomes the key that results from
// key. dst may be key. It returns [ErrKeySize] for a key that is no AES key, [ErrScheme] for a step without
// data, or [ErrOutputSize]. Both sides.
func AESDeriveStep(dst, key []byte, step dukpt.Step) error {
	switch {
	case step.DataLen != 16 && step.DataLen != 32, step.Key.Size() == 0, step.Key.Size() > step.DataLen:
		return ErrScheme
	case len(dst) != step.Key.Size():
		return ErrOutputSize
	case len(key) != 16 && len(key) != 24 && len(key) != 32:
		return ErrKeySize
	}
	var current [maxKeySize]byte
	defer clear(current[:])
	n := copy(current[:], key)
	if err := deriveStep(&current, n, &step); err != nil {
		return err
	}
	copy(dst, current[:])
	return nil
}

// deriveStep replaces the n-byte key at the start of key by the one that results, of step.Key.Size() bytes.
func deriveStep(key *[maxKeySize]byte, n int, step *dukpt.Step) error {
	c, err := aes.NewCipher(key[:n])
	if err != nil {
		return ErrKeySize // the text of crypto/aes has nothing to add
	}
	clear(key[:])
	for i := 0; i < step.DataLen; i += aes.BlockSize {
		c.Encrypt(key[i:], step.Data[i:])
	}
	clear(key[step.Key.Size():])
	return nil
}
