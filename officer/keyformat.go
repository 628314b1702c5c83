package officer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strconv"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/scrypt"
)

// keyType is the PEM type of an officer's key under a passphrase. Its headers, which all
// must be there, are sorted:
//
//	Checksum    SHA-256 of everything else, hex: tells damage from a wrong passphrase
//	Cipher      XChaCha20-Poly1305
//	KDF         scrypt N r p, in decimal
//	Nonce       24 bytes, hex
//	Passphrase  32 bytes, hex: the second half of what scrypt returned
//	Public-Key  SubjectPublicKeyInfo, base64
//	Salt        32 bytes, hex
//	Version     1
//
// The body is the PKCS#8 key enciphered with the first half of what scrypt returned. All
// other headers but the checksum are its associated data. Nothing of a key is believed
// that the cipher has not vouched for; the checksum is for the message only.
const keyType = "KEYD OFFICER KEY"

const (
	keyVersion = "1"
	keyCipher  = "XChaCha20-Poly1305"
	saltSize   = 32
	proofSize  = 32
	maxKeyFile = 8192 // bytes; a file has about 1,100
	maxSealed  = 1024 // bytes of the body
)

// cost is what scrypt shall take.
type cost struct{ n, r, p int }

// standardCost takes 128 MiB and about half a second.
var standardCost = cost{1 << 17, 8, 1}

// valid bounds what a file may ask of this machine: 512 MiB, and four times over.
func (c cost) valid() bool {
	return c.n >= 1<<15 && c.n <= 1<<19 && c.n&(c.n-1) == 0 && c.r >= 1 && c.r <= 16 && c.p >= 1 && c.p <= 4 &&
		128*c.n*c.r <= 512<<20
}

func (c cost) String() string { return fmt.Sprintf("scrypt %d %d %d", c.n, c.r, c.p) }

// sealedKey is the parsed file.
type sealedKey struct {
	cost   cost
	salt   [saltSize]byte
	nonce  [chacha20poly1305.NonceSizeX]byte
	proof  [proofSize]byte // of the passphrase
	public []byte          // SubjectPublicKeyInfo
	sealed []byte
}

// encode is the one form of a key file: parse accepts no other.
func (k *sealedKey) encode() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: k.sealed, Headers: map[string]string{
		"Version":    keyVersion,
		"Cipher":     keyCipher,
		"KDF":        k.cost.String(),
		"Salt":       hex.EncodeToString(k.salt[:]),
		"Nonce":      hex.EncodeToString(k.nonce[:]),
		"Passphrase": hex.EncodeToString(k.proof[:]),
		"Public-Key": base64.StdEncoding.EncodeToString(k.public),
		"Checksum":   hex.EncodeToString(k.checksum()),
	}})
}

// parseSealedKey reads a key file as hostile input. Every error is an ErrDamaged.
func parseSealedKey(text []byte) (*sealedKey, *ecdsa.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != keyType || len(rest) > 0 || len(block.Bytes) > maxSealed {
		return nil, nil, fmt.Errorf("%w: it is not one PEM block %s", ErrDamaged, keyType)
	}
	h := block.Headers
	if h["Version"] != keyVersion || h["Cipher"] != keyCipher {
		return nil, nil, fmt.Errorf("%w, or written by another keyd: this one knows version %s with %s", ErrDamaged, keyVersion, keyCipher)
	}
	k := &sealedKey{sealed: block.Bytes}
	if _, err := fmt.Sscanf(h["KDF"], "scrypt %d %d %d", &k.cost.n, &k.cost.r, &k.cost.p); err != nil || !k.cost.valid() {
		return nil, nil, fmt.Errorf("%w: KDF asks for a cost that no keyd writes", ErrDamaged)
	}
	var err error
	if k.public, err = base64.StdEncoding.DecodeString(h["Public-Key"]); err != nil {
		return nil, nil, fmt.Errorf("%w: Public-Key is not base64", ErrDamaged)
	}
	public, err := parsePublicDER(k.public)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: Public-Key: %w", ErrDamaged, err)
	}
	for name, into := range map[string][]byte{"Salt": k.salt[:], "Nonce": k.nonce[:], "Passphrase": k.proof[:]} {
		if len(h[name]) != 2*len(into) {
			return nil, nil, fmt.Errorf("%w: %s must have %d bytes", ErrDamaged, name, len(into))
		}
		if _, err := hex.Decode(into, []byte(h[name])); err != nil {
			return nil, nil, fmt.Errorf("%w: %s is not hex", ErrDamaged, name)
		}
	}
	if !bytes.Equal(k.encode(), text) {
		return nil, nil, fmt.Errorf("%w: its checksum or its form is not what keyd writes", ErrDamaged)
	}
	return k, public, nil
}

// associated is what the cipher authenticates beside the key: every field of the file
// that stands in clear, each with its length.
func (k *sealedKey) associated() []byte {
	var out []byte
	for _, field := range [][]byte{
		[]byte(keyType), []byte(keyVersion), []byte(keyCipher), []byte(k.cost.String()), k.salt[:], k.nonce[:], k.proof[:], k.public,
	} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(field)))
		out = append(out, field...)
	}
	return out
}

func (k *sealedKey) checksum() []byte {
	sum := sha256.Sum256(append(k.associated(), k.sealed...))
	return sum[:]
}

// derive returns the key of the cipher and the proof of the passphrase.
func (k *sealedKey) derive(passphrase []byte) (key, proof []byte, err error) {
	out, err := scrypt.Key(passphrase, k.salt[:], k.cost.n, k.cost.r, k.cost.p, chacha20poly1305.KeySize+proofSize)
	if err != nil {
		return nil, nil, err
	}
	return out[:chacha20poly1305.KeySize], out[chacha20poly1305.KeySize:], nil
}

// minPassphrase is the length of the shortest passphrase of a new key, in bytes.
const minPassphrase = 8

// maxPassphrase bounds a passphrase in bytes.
const maxPassphrase = 512

func checkPassphrase(passphrase []byte) error {
	if len(passphrase) == 0 {
		return ErrEmptyPassphrase
	}
	if len(passphrase) > maxPassphrase {
		return fmt.Errorf("a passphrase has at most %s bytes: take a shorter one", strconv.Itoa(maxPassphrase))
	}
	return nil
}
