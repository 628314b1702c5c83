package checkpoint

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

var (
	// ErrNote says that a text is no checkpoint of a keyd.
	ErrNote = errors.New("this is no checkpoint of an audit log")
	// ErrSignature says that a checkpoint was not signed by the key.
	ErrSignature = errors.New("the checkpoint has no valid signature of this module")
	// ErrKey says that a public key is none that signs checkpoints.
	ErrKey = errors.New("checkpoints are signed with an ECDSA key of P-256, P-384 or P-521")
)

// MaxNote bounds a checkpoint, in bytes: with cosignatures of witnesses, of which none is
// looked at.
const MaxNote = 64 << 10

// Checkpoint is a checkpoint that was read. Nothing says that it is genuine before
// [Checkpoint.Verify] does.
type Checkpoint struct {
	Origin string
	Tree
	Note []byte // the whole of it
}

// Signed is a checkpoint that a module has signed for the front that keeps the log.
type Signed struct {
	*Checkpoint
	Key   *ecdsa.PublicKey // the module's identity
	Began bool             // the modules remembered no earlier one of this log
}

// Text returns what is signed.
func Text(origin string, t Tree) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", origin, t.Size, t.Root)
}

// Sign returns the signature of a checkpoint, in DER. Only a module calls it, when it is sure
// of the tree. The signer's key is an ECDSA key; errors are its own, [ErrNote] and [ErrKey].
func Sign(signer crypto.Signer, origin string, t Tree) ([]byte, error) {
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || !usable(key) {
		return nil, ErrKey
	}
	if !ValidOrigin(origin) || !t.Valid() {
		return nil, ErrNote
	}
	digest := sha256.Sum256(Text(origin, t))
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signature, nil
}

// Assemble makes a checkpoint of what [Sign] returned, and verifies it. The error is
// [ErrSignature], [ErrNote] or [ErrKey].
func Assemble(origin string, t Tree, key *ecdsa.PublicKey, signature []byte) (*Checkpoint, error) {
	id, err := KeyID(key)
	if err != nil {
		return nil, err
	}
	text := append(Text(origin, t), "\n— "+origin+" "...)
	text = base64.StdEncoding.AppendEncode(text, append(binary.BigEndian.AppendUint32(nil, id), signature...))
	c, err := Parse(append(text, '\n'))
	if err != nil {
		return nil, err
	}
	return c, c.Verify(key)
}

// Parse reads one checkpoint, strictly: another text for the same thing is none. Lines of
// signatures by others than the log may follow; the log's own comes first, once. The error
// is [ErrNote].
func Parse(text []byte) (*Checkpoint, error) {
	if len(text) > MaxNote {
		return nil, ErrNote
	}
	lines := strings.SplitAfter(string(text), "\n")
	if len(lines) < 6 || lines[len(lines)-1] != "" {
		return nil, ErrNote
	}
	line := func(i int) string { return strings.TrimSuffix(lines[i], "\n") }
	c := &Checkpoint{Origin: line(0), Note: bytes.Clone(text)}
	size, err := strconv.ParseUint(line(1), 10, 64)
	root, wrong := base64.StdEncoding.Strict().DecodeString(line(2))
	if err != nil || wrong != nil || len(root) != len(c.Root) {
		return nil, ErrNote
	}
	c.Size = size
	copy(c.Root[:], root)
	if !ValidOrigin(c.Origin) || !c.Valid() || !bytes.HasPrefix(text, append(Text(c.Origin, c.Tree), "\n— "+c.Origin+" "...)) {
		return nil, ErrNote
	}
	if _, err := c.signature(); err != nil {
		return nil, err
	}
	for i := 4; i < len(lines)-1; i++ {
		name, _, ok := strings.Cut(strings.TrimPrefix(line(i), "— "), " ")
		if !ok || !strings.HasPrefix(lines[i], "— ") || i > 4 && name == c.Origin {
			return nil, ErrNote
		}
	}
	return c, nil
}

// signature returns the log's own, behind the identifier of its key.
func (c *Checkpoint) signature() ([]byte, error) {
	rest := c.Note[len(Text(c.Origin, c.Tree))+len("\n— ")+len(c.Origin)+1:]
	encoded := string(rest[:bytes.IndexByte(rest, '\n')])
	if strings.ContainsAny(encoded, "\r\n") {
		return nil, ErrNote
	}
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < 4+8 || len(b) > 4+150 { // of P-521 at most 139
		return nil, ErrNote
	}
	return b, nil
}

// KeyID returns which key the checkpoint says that it was signed with.
func (c *Checkpoint) KeyID() uint32 {
	b, err := c.signature()
	if err != nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// Verify checks the log's signature. Whose the key is, is for who confirmed its fingerprint
// to say. The error is [ErrSignature] or [ErrKey].
func (c *Checkpoint) Verify(key *ecdsa.PublicKey) error {
	id, err := KeyID(key)
	if err != nil {
		return err
	}
	opened, err := note.Open(c.Note, note.VerifierList(verifier{c.Origin, id, key}))
	if err != nil || opened.Text != string(Text(c.Origin, c.Tree)) {
		return ErrSignature
	}
	return nil
}

// verifier is a key of signed notes, of type 0x02.
type verifier struct {
	name string
	id   uint32
	key  *ecdsa.PublicKey
}

func (v verifier) Name() string    { return v.name }
func (v verifier) KeyHash() uint32 { return v.id }

func (v verifier) Verify(text, signature []byte) bool {
	digest := sha256.Sum256(text)
	return ecdsa.VerifyASN1(v.key, digest[:], signature)
}

// KeyID returns the identifier that signatures of a key carry: the first four bytes of the
// SHA-256 of its SubjectPublicKeyInfo. The error is [ErrKey].
func KeyID(key *ecdsa.PublicKey) (uint32, error) {
	sum, err := digestOf(key)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(sum[:]), nil
}

// Fingerprint returns the SHA-256 of a key's SubjectPublicKeyInfo as 64 lower-case hex
// digits: what officers have confirmed. The error is [ErrKey].
func Fingerprint(key *ecdsa.PublicKey) (string, error) {
	sum, err := digestOf(key)
	return hex.EncodeToString(sum[:]), err
}

func digestOf(key *ecdsa.PublicKey) (sum [sha256.Size]byte, err error) {
	der, err := MarshalKey(key)
	if err != nil {
		return sum, err
	}
	return sha256.Sum256(der), nil
}

// MarshalKey returns a key's SubjectPublicKeyInfo in DER. The error is [ErrKey].
func MarshalKey(key *ecdsa.PublicKey) ([]byte, error) {
	if key == nil || !usable(key) {
		return nil, ErrKey
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, ErrKey
	}
	return der, nil
}

// ParseKey reads a SubjectPublicKeyInfo in its one encoding. The error is [ErrKey].
func ParseKey(der []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, ErrKey
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, ErrKey
	}
	again, err := MarshalKey(key)
	if err != nil || !bytes.Equal(again, der) {
		return nil, ErrKey
	}
	return key, nil
}

// maxKeys bounds a file of public keys, in bytes.
const maxKeys = 64 << 10

// ParseKeys reads public keys in PEM (PUBLIC KEY), one after the other, and refuses anything
// else but white space. The error wraps [ErrKey].
func ParseKeys(text []byte) (keys []*ecdsa.PublicKey, err error) {
	if len(text) > maxKeys {
		return nil, fmt.Errorf("%w: a file of them has at most %d bytes", ErrKey, maxKeys)
	}
	for text = bytes.TrimSpace(text); len(text) > 0; text = bytes.TrimSpace(text) {
		block, rest := pem.Decode(text)
		if block == nil || !bytes.HasPrefix(text, []byte("-----BEGIN PUBLIC KEY-----")) || len(block.Headers) > 0 {
			return nil, fmt.Errorf("%w: the file must hold PEM blocks PUBLIC KEY and nothing else", ErrKey)
		}
		key, err := ParseKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		// One key has one text: the last character of base64 can say the same in several ways.
		if again, err := KeyPEM(key); err != nil || !bytes.HasPrefix(append(bytes.Clone(text), '\n'), again) {
			return nil, fmt.Errorf("%w: the PEM is not as openssl pkey -pubin -pubout writes it", ErrKey)
		}
		keys, text = append(keys, key), rest
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: the file has none", ErrKey)
	}
	return keys, nil
}

// KeyPEM returns a public key in PEM. The error is [ErrKey].
func KeyPEM(key *ecdsa.PublicKey) ([]byte, error) {
	der, err := MarshalKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func usable(key *ecdsa.PublicKey) bool {
	return key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521()
}
