package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// MaxDocument bounds an encoded document but the epoch, in bytes.
const MaxDocument = 64 << 10

// Errors of documents.
var (
	ErrDocument  = errors.New("malformed document")
	ErrSignature = errors.New("the signature is not one of this key over this document")
	ErrKeyKind   = errors.New("signing keys are ECDSA keys on P-256, P-384 or P-521")
)

// Encode returns the one encoding of a document.
func Encode[T any](document *T) ([]byte, error) {
	b, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	return b, nil
}

// Decode accepts exactly what [Encode] returns, of at most limit bytes. The error is
// [ErrDocument].
func Decode[T any](b []byte, limit int) (*T, error) {
	if len(b) > limit {
		return nil, ErrDocument
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	document := new(T)
	if err := dec.Decode(document); err != nil {
		return nil, ErrDocument
	}
	again, err := Encode(document)
	if err != nil || !bytes.Equal(again, b) {
		return nil, ErrDocument
	}
	return document, nil
}

// Digest returns the SHA-256 of an encoded document, in hex.
func Digest(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

// validDigest reports whether a text is what [Digest] returns.
func validDigest(s string) bool { return len(s) == 2*sha256.Size && lowerHex(s) }

func lowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// FormatFingerprint writes a digest as people compare it: upper-case hex, in groups of four.
func FormatFingerprint(digest string) string {
	digest = strings.ToUpper(digest)
	var groups []string
	for ; len(digest) > 4; digest = digest[4:] {
		groups = append(groups, digest[:4])
	}
	return strings.Join(append(groups, digest), " ")
}

// NormalFingerprint returns a digest as it is written in documents, of what
// [FormatFingerprint] has made of it.
func NormalFingerprint(text string) string {
	return strings.ToLower(strings.ReplaceAll(text, " ", ""))
}

// KeyFingerprint returns the digest of a public key's SubjectPublicKeyInfo (RFC 5280), in hex.
func KeyFingerprint(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", ErrKeyKind
	}
	return Digest(der), nil
}

// ParseKey reads a SubjectPublicKeyInfo in DER. Only signing keys are accepted.
func ParseKey(der []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, ErrKeyKind
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || hashOf(key) == 0 {
		return nil, ErrKeyKind
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, der) {
		return nil, ErrKeyKind
	}
	return key, nil
}

// Purpose is what a signature is for. It stands before the document that is signed.
type Purpose string

// The purposes.
const (
	ByOfficer  Purpose = "keyd officer statement 1" // a Statement, by an officer
	OfOpening  Purpose = "keyd ceremony opening 1"  // an Opening, by a module
	OfRecord   Purpose = "keyd ceremony record 1"   // a Record, by a module
	OfIdentity Purpose = "keyd module identity 1"   // an Identity, by a module
	OfBackup   Purpose = "keyd backup 1"            // a Backup, by a module

	OfPINApproval  Purpose = "keyd pin approval 1"  // what happens to a PIN record (package pinrecord), by an approver
	OfVoidApproval Purpose = "keyd void approval 1" // a void (package pinrecord), by an approver

	OfInjection Purpose = "keyd injection 1" // that a terminal has confirmed keys (package receipt), by a module
)

// Sign signs an encoded document for a purpose: ECDSA (FIPS 186-5) with the hash that
// fits the curve, in ASN.1 DER.
func Sign(signer crypto.Signer, purpose Purpose, encoded []byte) ([]byte, error) {
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || hashOf(key) == 0 {
		return nil, ErrKeyKind
	}
	digest, hash := digestFor(key, purpose, encoded)
	signature, err := signer.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return signature, nil
}

// Verify checks a signature. The error is [ErrSignature].
func Verify(key *ecdsa.PublicKey, purpose Purpose, encoded, signature []byte) error {
	digest, _ := digestFor(key, purpose, encoded)
	if digest == nil || !ecdsa.VerifyASN1(key, digest, signature) {
		return ErrSignature
	}
	return nil
}

func digestFor(key *ecdsa.PublicKey, purpose Purpose, encoded []byte) ([]byte, crypto.Hash) {
	message := append([]byte(string(purpose)+"\x00"), encoded...)
	switch hash := hashOf(key); hash {
	case crypto.SHA256:
		sum := sha256.Sum256(message)
		return sum[:], hash
	case crypto.SHA384:
		sum := sha512.Sum384(message)
		return sum[:], hash
	case crypto.SHA512:
		sum := sha512.Sum512(message)
		return sum[:], hash
	}
	return nil, 0
}

func hashOf(key *ecdsa.PublicKey) crypto.Hash {
	switch key.Curve {
	case elliptic.P256():
		return crypto.SHA256
	case elliptic.P384():
		return crypto.SHA384
	case elliptic.P521():
		return crypto.SHA512
	}
	return 0
}

// Signed is an encoded document with its signature.
type Signed struct {
	Document  []byte `json:"document"`
	Signature []byte `json:"signature"`
}
