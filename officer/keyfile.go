package officer

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"
)

var (
	// ErrEmptyPassphrase is returned where a key would be written without protection.
	ErrEmptyPassphrase = errors.New("the passphrase is empty: an officer's key needs one")
	// ErrWrongPassphrase is returned for a file that is whole, and a passphrase that is not
	// the one it was written with.
	ErrWrongPassphrase = errors.New("this is not the passphrase of the key")
	// ErrDamaged is returned for a file that is not as keyd wrote it, whatever the
	// passphrase: fetch it from where a copy is kept.
	ErrDamaged = errors.New("the key file is damaged")
)

// CreateKey makes a signing key (ECDSA P-384) and writes it to a new file, mode 0600,
// enciphered under the passphrase, which the caller wipes. When it returns, the file is
// on the disk. A file that exists is never overwritten: the error is then fs.ErrExist.
// An empty passphrase is ErrEmptyPassphrase, and one of less than 8 bytes is refused.
func CreateKey(path string, passphrase []byte) (*ecdsa.PublicKey, error) {
	return createKey(path, passphrase, standardCost)
}

func createKey(path string, passphrase []byte, c cost) (*ecdsa.PublicKey, error) {
	if err := checkPassphrase(passphrase); err != nil {
		return nil, err
	}
	if len(passphrase) < minPassphrase {
		return nil, fmt.Errorf("a passphrase has at least %d characters: several words are good", minPassphrase)
	}
	if err := absent(path); err != nil {
		return nil, err
	}
	var public *ecdsa.PublicKey
	var text []byte
	var err error
	erased(func() { public, text, err = makeKey(passphrase, c) })
	if err != nil {
		return nil, fmt.Errorf("make an officer's key: %w", err)
	}
	if err := writeKey(path, text); err != nil {
		return nil, err
	}
	return public, nil
}

// CreateUnprotectedKey is [CreateKey] without a passphrase, for development directories:
// whoever reads the file signs as the officer. It is plain PKCS#8.
func CreateUnprotectedKey(path string) (*ecdsa.PublicKey, error) {
	if err := absent(path); err != nil {
		return nil, err
	}
	key, der, err := generate()
	if err != nil {
		return nil, fmt.Errorf("make an officer's key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: der})
	clear(der)
	defer clear(text)
	if err := writeKey(path, text); err != nil {
		return nil, err
	}
	return publicOf(key), nil
}

// OpenKey opens a key that [CreateKey] or [CreateUnprotectedKey] wrote, or another PKCS#8
// key of P-256, P-384 or P-521. It asks for the passphrase only where the file has one,
// and wipes the answer. Others than the owner must not be able to read the file. Errors:
// ErrWrongPassphrase, ErrDamaged, ErrEmptyPassphrase, or passphrase's own.
func OpenKey(path string, passphrase func() ([]byte, error)) (crypto.Signer, error) {
	text, err := readKey(path)
	if err != nil {
		return nil, fmt.Errorf("officer's key: %w", err)
	}
	defer clear(text)
	key, err := openKey(text, passphrase)
	if err != nil {
		return nil, fmt.Errorf("officer's key %s: %w", path, err)
	}
	return signer{key}, nil
}

func openKey(text []byte, passphrase func() ([]byte, error)) (*ecdsa.PrivateKey, error) {
	if block, rest := pem.Decode(text); block != nil && block.Type == privateType {
		defer clear(block.Bytes)
		if len(block.Headers) > 0 || len(rest) > 0 {
			return nil, fmt.Errorf("%w: there is something besides one PEM block %s", ErrDamaged, privateType)
		}
		return parsePrivate(block.Bytes)
	}
	k, public, err := parseSealedKey(text)
	if err != nil {
		return nil, err
	}
	if passphrase == nil {
		return nil, errors.New("the key needs a passphrase, and there is nobody to ask: run this at a terminal")
	}
	typed, err := passphrase()
	defer clear(typed)
	if err != nil {
		return nil, err
	}
	if err := checkPassphrase(typed); err != nil {
		return nil, err
	}
	var key *ecdsa.PrivateKey
	erased(func() { key, err = k.open(typed, public) })
	return key, err
}

func makeKey(passphrase []byte, c cost) (*ecdsa.PublicKey, []byte, error) {
	key, der, err := generate()
	if err != nil {
		return nil, nil, err
	}
	defer clear(der)
	k := &sealedKey{cost: c}
	if k.public, err = publicDER(&key.PublicKey); err != nil {
		return nil, nil, err
	}
	for _, random := range [][]byte{k.salt[:], k.nonce[:]} {
		if _, err := rand.Read(random); err != nil {
			return nil, nil, err
		}
	}
	cipherKey, proof, err := k.derive(passphrase)
	if err != nil {
		return nil, nil, err
	}
	defer clear(cipherKey)
	copy(k.proof[:], proof)
	aead, err := chacha20poly1305.NewX(cipherKey)
	if err != nil {
		return nil, nil, err
	}
	k.sealed = aead.Seal(nil, k.nonce[:], der, k.associated())
	return publicOf(key), k.encode(), nil
}

func (k *sealedKey) open(passphrase []byte, public *ecdsa.PublicKey) (*ecdsa.PrivateKey, error) {
	cipherKey, proof, err := k.derive(passphrase)
	if err != nil {
		return nil, err
	}
	defer clear(cipherKey)
	if subtle.ConstantTimeCompare(proof, k.proof[:]) != 1 {
		return nil, ErrWrongPassphrase
	}
	aead, err := chacha20poly1305.NewX(cipherKey)
	if err != nil {
		return nil, err
	}
	der, err := aead.Open(nil, k.nonce[:], k.sealed, k.associated())
	if err != nil {
		return nil, fmt.Errorf("%w: the passphrase is right, but the file was altered since", ErrDamaged)
	}
	defer clear(der)
	key, err := parsePrivate(der)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(public) {
		return nil, fmt.Errorf("%w: its public key belongs to another key", ErrDamaged)
	}
	return key, nil
}

func generate() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, der, err
}

// publicOf returns the public half alone: the address of the field would keep the whole
// key in memory.
func publicOf(key *ecdsa.PrivateKey) *ecdsa.PublicKey {
	public := key.PublicKey
	return &public
}

// parsePrivate never wraps an error of the parser: it might quote the key.
func parsePrivate(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: it holds no PKCS#8 key", ErrDamaged)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !officerCurve(key.Curve) {
		return nil, errPublicKey
	}
	return key, nil
}

// absent says early, before anybody waits for scrypt, that a file is there. What counts
// is the exclusive creation.
func absent(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return keyExists(path)
	}
	return nil
}

func keyExists(path string) error {
	return fmt.Errorf("officer's key %s: %w: a key is never overwritten; choose another name", path, fs.ErrExist)
}

func writeKey(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return keyExists(path)
	}
	if err != nil {
		return fmt.Errorf("officer's key: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path) // ours: it was created exclusively
			err = fmt.Errorf("officer's key: %w", err)
		}
	}()
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes what was created or renamed in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readKey(path string) ([]byte, error) {
	// O_NONBLOCK: opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read or change %s: chmod 600 it", path)
	}
	text := make([]byte, maxKeyFile+1)
	n, err := io.ReadFull(f, text)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if n > maxKeyFile {
		clear(text)
		return nil, fmt.Errorf("%s: %w: it has more than %d bytes", path, ErrDamaged, maxKeyFile)
	}
	return text[:n], nil
}

// signer is a key that prints as its public half only.
type signer struct{ key *ecdsa.PrivateKey }

func (s signer) Public() crypto.PublicKey { return publicOf(s.key) }

func (s signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(random, digest, opts)
}

func (signer) String() string             { return "officer's key" }
func (signer) GoString() string           { return "officer's key" }
func (signer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "officer's key") }

// Exchanger returns the same key for opening what is sealed to it: the code of a PIN (package
// pinrecord). A key on a card has none.
func (s signer) Exchanger() (*ecdh.PrivateKey, error) { return s.key.ECDH() }
