// Package passkey verifies passkeys: what a browser and an authenticator answer to a challenge, by
// WebAuthn (W3C Web Authentication, level 3). It takes what the passkeys of phones are and nothing
// else: ES256 on P-256, user present and verified, one origin, no frame of another site.
//
// It is pure: no file, no network, no clock, no CBOR and no JSON beyond what it compares byte by byte
// with what there has to be (WebAuthn 5.8.1.2). It is used in the module process, so it depends on
// nothing but the standard library.
//
// # What is not looked at
//
//   - Attestation: who made the authenticator. Passkeys of phones have none.
//   - The counter of signatures: passkeys that are synchronised say 0. A challenge is for one thing
//     alone, so that an assertion that is played again is of no use.
//   - Token binding, and extensions, of which keyd asks for none.
package passkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
)

// Sizes in bytes.
const (
	MinID         = 16  // of a credential's identifier
	MaxID         = 512 // likewise; WebAuthn allows 1023, and no phone has more than a few hundred
	MaxClientData = 2048
	MaxData       = 2048 // authenticator data
	MaxSignature  = 80   // ASN.1
	MaxOrigin     = 200
	pointSize     = 65
)

// Errors. None of them says more than which part was not what it has to be.
var (
	ErrClientData    = errors.New("passkey: the client data are not those of this challenge at this origin")
	ErrAuthenticator = errors.New("passkey: the authenticator data are malformed, or of another site")
	ErrUnverified    = errors.New("passkey: the authenticator has not verified its user")
	ErrKey           = errors.New("passkey: the public key is no ES256 key on P-256")
	ErrSignature     = errors.New("passkey: the signature is not that of the passkey")
	ErrCredential    = errors.New("passkey: it is another passkey")
)

// Credential is a passkey as it is kept.
type Credential struct {
	ID     []byte `json:"id"`
	Public []byte `json:"public"` // point on P-256, uncompressed, 65 bytes
	Origin string `json:"origin"` // "https://HOST", perhaps with a port: where it was made, and is used
}

// Valid reports whether the credential can be one.
func (c *Credential) Valid() bool {
	_, err := c.key()
	return err == nil && len(c.ID) >= MinID && len(c.ID) <= MaxID && ValidOrigin(c.Origin)
}

func (c *Credential) key() (*ecdsa.PublicKey, error) {
	if len(c.Public) != pointSize {
		return nil, ErrKey
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), c.Public)
	if err != nil {
		return nil, ErrKey
	}
	return key, nil
}

// ValidOrigin reports whether a text is an origin that passkeys can have: https, a host in lower case
// that is a DNS name, and a port but 443 if it has one.
func ValidOrigin(s string) bool {
	host, ok := strings.CutPrefix(s, "https://")
	if !ok || len(s) > MaxOrigin {
		return false
	}
	host, port, given := strings.Cut(host, ":")
	if given && (len(port) == 0 || len(port) > 5 || port[0] == '0' || port == "443" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return strings.Trim(host, "0123456789.") != "" // no IP address has passkeys
}

// RPID returns the relying party's identifier of a valid origin: its host.
func RPID(origin string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(origin, "https://"), ":")
	return host
}

// Assertion is what a browser answers to a challenge with a passkey (WebAuthn 6.3.3).
type Assertion struct {
	ID                []byte // of the credential
	ClientData        []byte // JSON, as the browser has written it
	AuthenticatorData []byte
	Signature         []byte // ECDSA with SHA-256, ASN.1
}

// Verify checks an assertion to a challenge. Errors are [ErrCredential], [ErrClientData],
// [ErrAuthenticator], [ErrUnverified], [ErrKey] and [ErrSignature].
func (c *Credential) Verify(a *Assertion, challenge [sha256.Size]byte) error {
	if !bytes.Equal(a.ID, c.ID) {
		return ErrCredential
	}
	if !isClientData(a.ClientData, "webauthn.get", challenge, c.Origin) {
		return ErrClientData
	}
	rest, flags, err := authenticatorData(a.AuthenticatorData, c.Origin)
	if err != nil {
		return err
	}
	if flags&attested != 0 || flags&extended == 0 && len(rest) > 0 {
		return ErrAuthenticator
	}
	return c.signed(a)
}

// signed checks the signature alone.
func (c *Credential) signed(a *Assertion) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	client := sha256.Sum256(a.ClientData)
	digest := sha256.Sum256(append(bytes.Clone(a.AuthenticatorData), client[:]...))
	if len(a.Signature) > MaxSignature || !ecdsa.VerifyASN1(key, digest[:], a.Signature) {
		return ErrSignature
	}
	return nil
}

// Register reads what a browser answers when a passkey is made (WebAuthn 7.1). Nothing of it is
// signed: what it is worth is what else speaks for it. Errors are those of [Credential.Verify] but for
// [ErrSignature].
func Register(clientData, data []byte, challenge [sha256.Size]byte, origin string) (Credential, error) {
	var none Credential
	if !ValidOrigin(origin) || !isClientData(clientData, "webauthn.create", challenge, origin) {
		return none, ErrClientData
	}
	rest, flags, err := authenticatorData(data, origin)
	if err != nil {
		return none, err
	}
	const aaguid = 16
	if flags&attested == 0 || len(rest) < aaguid+2 {
		return none, ErrAuthenticator
	}
	size := int(binary.BigEndian.Uint16(rest[aaguid:]))
	rest = rest[aaguid+2:]
	if size < MinID || size > MaxID || len(rest) < size {
		return none, ErrAuthenticator
	}
	c := Credential{ID: bytes.Clone(rest[:size]), Origin: origin}
	point, rest, ok := cosePoint(rest[size:])
	if !ok {
		return none, ErrKey
	}
	if flags&extended == 0 && len(rest) > 0 {
		return none, ErrAuthenticator
	}
	if c.Public = point; !c.Valid() {
		return none, ErrKey
	}
	return c, nil
}

// Flags of authenticator data (WebAuthn 6.1).
const (
	present    = 1 << 0
	verified   = 1 << 2
	backupable = 1 << 3
	backedUp   = 1 << 4
	attested   = 1 << 6
	extended   = 1 << 7
)

// authenticatorData checks the part that all have, and returns what follows.
func authenticatorData(b []byte, origin string) (rest []byte, flags byte, err error) {
	const fixed = sha256.Size + 1 + 4
	if len(b) < fixed || len(b) > MaxData {
		return nil, 0, ErrAuthenticator
	}
	site := sha256.Sum256([]byte(RPID(origin)))
	flags = b[sha256.Size]
	switch {
	case !bytes.Equal(b[:sha256.Size], site[:]), flags&(1<<1|1<<5) != 0, flags&backedUp != 0 && flags&backupable == 0:
		return nil, 0, ErrAuthenticator
	case flags&present == 0 || flags&verified == 0:
		return nil, 0, ErrUnverified
	}
	return b[fixed:], flags, nil
}

// cosePoint reads an ES256 key in the one encoding that authenticators have to use (CTAP2 canonical
// CBOR): {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
func cosePoint(b []byte) (point, rest []byte, ok bool) {
	const before, between = "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", "\x22\x58\x20"
	const size = len(before) + 32 + len(between) + 32
	if len(b) < size || string(b[:len(before)]) != before || string(b[len(before)+32:size-32]) != between {
		return nil, nil, false
	}
	point = append([]byte{4}, b[len(before):len(before)+32]...)
	return append(point, b[size-32:size]...), b[size:], true
}

// isClientData compares client data with what a browser has to write (WebAuthn 5.8.1.2), whose
// order is fixed so that nobody needs a JSON parser. What may follow is of no consequence: a value
// that stands twice counts where it stands first, here.
func isClientData(b []byte, kind string, challenge [sha256.Size]byte, origin string) bool {
	if len(b) > MaxClientData {
		return false
	}
	rest, ok := bytes.CutPrefix(b, []byte(`{"type":"`+kind+`","challenge":"`+base64.RawURLEncoding.EncodeToString(challenge[:])+`","origin":"`+origin+`"`))
	if !ok {
		return false
	}
	if string(rest) == "}" { // browsers that know nothing of frames yet
		return true
	}
	rest, ok = bytes.CutPrefix(rest, []byte(`,"crossOrigin":false`))
	return ok && len(rest) > 0 && (string(rest) == "}" || rest[0] == ',' && rest[len(rest)-1] == '}')
}
