package software

import (
	"encoding/binary"
	"fmt"
	"log/slog"

	"keyd/dukpt/software/internal/des"
)

// redacted stands for a secret wherever one would be printed.
const redacted = "[redacted]"

// TDESKey is a two- or three-key TDES key, expanded for use (NIST SP 800-67). It has no pointers, so the
// caller may put it anywhere, in locked memory for one. The zero value is the key of zeros and of no use:
// call Set first. Methods allocate nothing. It may be used by several goroutines at once, but not during
// Set or Destroy. Both sides use it.
type TDESKey struct {
	t des.Triple
}

// Set expands a key of 16 bytes (two-key: the third is the first) or 24 bytes, and refuses any other length,
// in particular single DES, with [ErrKeySize]; then nothing is changed. Parity is not checked, and neither
// is whether the parts of the key differ: whoever lets keys in decides that.
func (k *TDESKey) Set(key []byte) error {
	if !k.t.Expand(key) {
		return ErrKeySize
	}
	return nil
}

// Encrypt enciphers the 8-byte block src into dst. The two may be the same memory. It panics on fewer than
// 8 bytes, as cipher.Block does, and ignores what follows them.
func (k *TDESKey) Encrypt(dst, src []byte) {
	binary.BigEndian.PutUint64(dst, k.t.Encrypt(binary.BigEndian.Uint64(src)))
}

// Decrypt deciphers the 8-byte block src into dst, under the rules of Encrypt.
func (k *TDESKey) Decrypt(dst, src []byte) {
	binary.BigEndian.PutUint64(dst, k.t.Decrypt(binary.BigEndian.Uint64(src)))
}

// BlockSize returns 8: with Encrypt and Decrypt, *TDESKey is a crypto/cipher.Block.
func (k *TDESKey) BlockSize() int { return 8 }

// Destroy overwrites the key.
func (k *TDESKey) Destroy() { clear(k.t[:]) }

// String returns a constant, never the key.
func (TDESKey) String() string { return redacted }

// GoString returns a constant, never the key.
func (TDESKey) GoString() string { return redacted }

// Format writes a constant for every verb, never the key.
func (TDESKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns a constant, never the key.
func (TDESKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns a constant, never the key.
func (TDESKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
