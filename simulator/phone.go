package simulator

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"keyd/passkey"
	"keyd/pinblock"
	"keyd/pinrecord"
)

// Phone is a phone in software, at one origin. It does what the page and the phone's authenticator do,
// and keeps its passkeys in memory.
type Phone struct {
	Origin   string
	passkeys []phoneKey
}

type phoneKey struct {
	id      []byte
	private *ecdsa.PrivateKey
}

// Pad is where somebody types on the phone: all that is typed there has one point.
type Pad struct {
	Point   []byte // the phone's, uncompressed
	own     *ecdh.PrivateKey
	modules *ecdh.PublicKey
}

// Pad makes a key pair with which the phone agrees with the modules' point.
func (p *Phone) Pad(modules []byte) (*Pad, error) {
	other, err := pinrecord.PhonePoint(modules)
	if err != nil {
		return nil, err
	}
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Pad{own.PublicKey().Bytes(), own, other}, nil
}

// Enter is [Pad.Enter] on a pad of its own.
func (p *Phone) Enter(modules []byte, number string, digits []byte, context pinrecord.Context) (point, block []byte, err error) {
	pad, err := p.Pad(modules)
	if err != nil {
		return nil, nil, err
	}
	if block, err = pad.Enter(number, digits, context); err != nil {
		return nil, nil, err
	}
	return pad.Point, block, nil
}

// Enter enciphers digits for a subject's number and one use, in ISO 9564-1 format 4.
func (p *Pad) Enter(number string, digits []byte, context pinrecord.Context) ([]byte, error) {
	z, err := p.own.ECDH(p.modules)
	if err != nil {
		return nil, err
	}
	defer clear(z)
	key := make([]byte, pinrecord.PhoneKeySize)
	defer clear(key)
	pinrecord.PhoneKey(key, z, p.modules, p.own.PublicKey(), context)
	pan, err := pinblock.ParsePAN(number)
	if err != nil {
		return nil, err
	}
	var pin pinblock.PIN
	defer pin.Destroy()
	if err := pin.SetDigits(digits); err != nil {
		return nil, err
	}
	var random [pinblock.RandomSize]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	block := make([]byte, pinblock.ISO4.Size())
	if err := pinblock.Encode(block, pinblock.ISO4, &pin, pan, &random); err != nil {
		return nil, err
	}
	cipher, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	cipher.Encrypt(block, block)
	if err := pan.XORField4(block); err != nil {
		return nil, err
	}
	cipher.Encrypt(block, block)
	return block, nil
}

// Flags of authenticator data (WebAuthn 6.1): user present, user verified, with a key.
const (
	phoneVerified = 1<<0 | 1<<2
	phoneAttested = 1 << 6
)

// CreatePasskey makes a passkey for a challenge, and returns what a browser answers.
func (p *Phone) CreatePasskey(challenge [sha256.Size]byte) (clientData, authenticatorData []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, nil, err
	}
	k := phoneKey{make([]byte, 16), private}
	if _, err := rand.Read(k.id); err != nil {
		return nil, nil, err
	}
	p.passkeys = append(p.passkeys, k)
	data := p.data(phoneVerified | phoneAttested)
	data = binary.BigEndian.AppendUint16(append(data, make([]byte, 16)...), uint16(len(k.id)))
	data = append(append(data, k.id...), "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"...) // COSE: {1: 2, 3: -7, -1: 1, -2: x, -3: y}
	data = append(append(data, point[1:33]...), "\x22\x58\x20"...)
	return p.clientData("webauthn.create", challenge), append(data, point[33:]...), nil
}

// Approve answers a challenge with the passkey that was made last.
func (p *Phone) Approve(challenge [sha256.Size]byte) (*passkey.Assertion, error) {
	k := p.passkeys[len(p.passkeys)-1]
	a := &passkey.Assertion{ID: k.id, ClientData: p.clientData("webauthn.get", challenge), AuthenticatorData: p.data(phoneVerified)}
	client := sha256.Sum256(a.ClientData)
	digest := sha256.Sum256(append(append([]byte(nil), a.AuthenticatorData...), client[:]...))
	var err error
	a.Signature, err = ecdsa.SignASN1(rand.Reader, k.private, digest[:])
	return a, err
}

func (p *Phone) data(flags byte) []byte {
	site := sha256.Sum256([]byte(passkey.RPID(p.Origin)))
	return append(site[:], flags, 0, 0, 0, 0)
}

func (p *Phone) clientData(kind string, challenge [sha256.Size]byte) []byte {
	return []byte(`{"type":"` + kind + `","challenge":"` + base64.RawURLEncoding.EncodeToString(challenge[:]) + `","origin":"` + p.Origin + `","crossOrigin":false}`)
}
