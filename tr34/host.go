package tr34

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"io"
	"math/bits"
	"time"

	"keyd/keyblock"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// ScratchSize is the size in bytes of the buffer that [Host.PrepareKeyToken] and
// [Device.OpenKeyToken] work in: 32 for the content key, and the rest for the key block.
const ScratchSize = contentKeySize + 4096

const contentKeySize = 32

// MaxHeader bounds a header with its optional blocks, in characters.
const MaxHeader = 1024

// Host is a key distribution host.
type Host struct {
	Certificate *x509.Certificate

	// Sign returns the signature of a SHA-256 digest of 32 bytes with the key of Certificate,
	// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2), as long as the modulus.
	Sign func(digest []byte) ([]byte, error)

	Trust   Verifier // of devices, and of hosts to which devices are handed over: a [*Trust], or the caller's own
	Profile Profile
}

// Recipient is the device that a token is for. It is verified for [DeviceRole] by the host's
// Trust before anything is made for it.
type Recipient struct {
	Device *x509.Certificate
	CRLs   [][]byte // of the devices' CA, in DER; where there are none nothing is looked up
	Now    time.Time
}

// Key is a key to send.
type Key struct {
	Header string // of X9.143, at most MaxHeader characters; its length field says nothing here
	Clear  []byte // TDES of 16 or 24 bytes, AES of 16, 24 or 32; stays the caller's
}

// Freshness is why the device should take a token now: it repeats the device's random number
// (two-pass), or has a time stamp after all of the host's earlier ones to that device
// (one-pass), and then the CRL of the hosts' CA.
type Freshness struct {
	Random []byte    // from RT_KRD; nil in one-pass
	Time   time.Time // written in whole seconds of UTC, years 1950 to 2049; zero in two-pass
	CRL    []byte    // in DER; optional in two-pass
}

// KeyToken makes KT_KDH (TR 34-2019 B.8 one-pass, B.9 two-pass). It is [Host.PrepareKeyToken]
// and [PreparedToken.Finish].
func (h *Host) KeyToken(random io.Reader, to Recipient, key Key, fresh Freshness, scratch []byte) ([]byte, error) {
	p, err := h.PrepareKeyToken(random, to, key, fresh, scratch)
	if err != nil {
		return nil, err
	}
	return p.Finish(h)
}

// PreparedToken is a token that only lacks the signature. It holds no clear key.
type PreparedToken struct {
	kind       asn1.ObjectIdentifier
	content    []byte
	attributes [][]byte
	crls       [][]byte
}

// PrepareKeyToken does what a key token needs the clear key for, and does not call Sign: so it
// may run where no C function may be called. A fresh content key, its IV and the seed of OAEP
// come from random. Scratch has [ScratchSize] bytes or more and is clear afterwards; what
// remains elsewhere is said in the package comment.
//
// The errors are those of [Trust.Verify], and [ErrHeader], [ErrKeySize], [ErrWeakerWrapping],
// [ErrFreshness], [ErrRandomSize], [ErrCRL], [ErrScratch], [ErrContentTooLarge], [ErrProfile].
func (h *Host) PrepareKeyToken(random io.Reader, to Recipient, key Key, fresh Freshness, scratch []byte) (*PreparedToken, error) {
	if len(scratch) < ScratchSize {
		return nil, ErrScratch
	}
	scratch = scratch[:ScratchSize]
	defer clear(scratch)
	oaep, mgf, err := h.Profile.hashes()
	if err != nil {
		return nil, err
	}
	c, ok := ciphers[h.Profile.Content]
	if !ok {
		return nil, ErrProfile
	}
	if err := h.verify(to); err != nil {
		return nil, err
	}
	device, err := rsaKey(to.Device)
	if err != nil {
		return nil, err
	}
	header, err := readHeader([]byte(key.Header))
	if err != nil || header.Validate() != nil {
		return nil, ErrHeader
	}
	if err := carries(device, h.Profile.Content, header.Algorithm, len(key.Clear)); err != nil {
		return nil, err
	}
	headerAttribute, err := octetsAttribute(idData, []byte(key.Header))
	if err != nil {
		return nil, err
	}
	attributes, crls, err := fresh.attributes(headerAttribute)
	if err != nil {
		return nil, err
	}

	block, err := h.keyBlock(scratch[contentKeySize:], key)
	if err != nil {
		return nil, err
	}
	contentKey := scratch[:c.key]
	e := &envelope{recipient: identify(to.Device), cipher: h.Profile.Content, iv: make([]byte, c.block)}
	for _, b := range [][]byte{contentKey, e.iv} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("tr34: random bytes: %w", err)
		}
	}
	if e.cipher == TDESCBC {
		oddParity(contentKey)
	}
	blocks, err := newCipher(e.cipher, contentKey)
	if err != nil {
		return nil, err
	}
	block = pad(block, c.block)
	cipher.NewCBCEncrypter(blocks, e.iv).CryptBlocks(block, block)
	e.content = append([]byte(nil), block...)
	if e.wrapped, err = rsa.EncryptOAEPWithOptions(random, device, contentKey, &rsa.OAEPOptions{Hash: oaep, MGFHash: mgf}); err != nil {
		return nil, fmt.Errorf("tr34: encrypt the content key: %w", err)
	}
	p := &PreparedToken{kind: idEnvelopedData, attributes: attributes, crls: crls}
	if p.content, err = e.write(h.Profile); err != nil {
		return nil, err
	}
	return p, nil
}

func (h *Host) verify(to Recipient) error {
	if _, err := rsaKey(h.Certificate); err != nil {
		return err
	}
	if h.Trust == nil {
		return ErrTrust
	}
	return h.Trust.Verify(to.Device, DeviceRole, to.CRLs, to.Now)
}

// keyBlock encodes what the envelope hides (TR 34-2019 B.2.2.2) into buffer, and leaves room
// for padding. It makes no copy of the key elsewhere.
func (h *Host) keyBlock(buffer []byte, key Key) ([]byte, error) {
	b := cryptobyte.NewFixedBuilder(buffer[: 0 : len(buffer)-aes.BlockSize])
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		version := int64(1)
		if h.Profile.AnnexDKeyBlock {
			version = 0
		}
		b.AddASN1Int64(version)
		identify(h.Certificate).write(b)
		b.AddASN1OctetString(key.Clear)
		header := func(b *cryptobyte.Builder) { b.AddASN1OctetString([]byte(key.Header)) }
		if h.Profile.AnnexDKeyBlock {
			header(b)
		} else {
			addAttribute(b, idData, header)
		}
	})
	block, err := b.Bytes()
	if err != nil {
		return nil, ErrContentTooLarge
	}
	return buffer[:len(block)], nil
}

// pad appends the padding of RFC 5652 §6.3 within the capacity of block.
func pad(block []byte, size int) []byte {
	n := size - len(block)%size
	for range n {
		block = append(block, byte(n))
	}
	return block
}

// oddParity sets the lowest bit of each byte, as some devices want it of a TDES key.
func oddParity(key []byte) {
	for i, b := range key {
		key[i] = b&^1 | byte(1-bits.OnesCount8(b>>1)&1)
	}
}

func newCipher(c Cipher, key []byte) (cipher.Block, error) {
	if c == TDESCBC {
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

// carries enforces that RSA key and content cipher are as strong as the key.
func carries(device *rsa.PublicKey, content Cipher, algorithm byte, size int) error {
	strength := KeyStrength(algorithm, size)
	switch {
	case strength == 0:
		return ErrKeySize
	case Strength(device.N.BitLen()) < strength || ciphers[content].strength < strength:
		return ErrWeakerWrapping
	}
	return nil
}

// readHeader reads a header that is all of text.
func readHeader(text []byte) (keyblock.Header, error) {
	if len(text) > MaxHeader {
		return keyblock.Header{}, ErrHeader
	}
	header, size, err := keyblock.ParseHeader(text)
	if err != nil || size != len(text) {
		return keyblock.Header{}, ErrHeader
	}
	return header, nil
}

// attributes returns the signed attributes that say why a token is fresh, and what others are
// given, in the order of the samples.
func (f Freshness) attributes(others ...[]byte) (attributes, crls [][]byte, err error) {
	var first []byte
	switch {
	case f.Random != nil && f.Time.IsZero():
		first, err = RandomToken(f.Random)
	case f.Random == nil && f.Time.Year() >= 1950 && f.Time.Year() < 2050 && f.CRL != nil:
		first, err = attribute(idSigningTime, func(b *cryptobyte.Builder) { b.AddASN1UTCTime(f.Time.UTC()) })
	default:
		err = ErrFreshness
	}
	if err != nil {
		return nil, nil, err
	}
	if f.CRL != nil {
		crls = [][]byte{f.CRL}
	}
	if _, err := parseCRLs(crls); err != nil {
		return nil, nil, err
	}
	return append([][]byte{first}, others...), crls, nil
}

// UnbindToken makes UBT_KDH (TR 34-2019 B.14), by which a device forgets its host. It needs the
// device's random number: there is no one-pass form. The errors are those of [Trust.Verify],
// and [ErrFreshness], [ErrRandomSize], [ErrCRL], [ErrSign].
func (h *Host) UnbindToken(to Recipient, fresh Freshness) ([]byte, error) {
	if err := h.verify(to); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	identify(to.Device).write(&b)
	content, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return h.bindingToken(idData, content, fresh)
}

// RebindToken makes RBT_KDH (TR 34-2019 B.11), by which a device forgets this host and is bound
// to another, whose certificate is verified for [HostRole] with the CRL in fresh, which is
// needed here. The errors are those of [Host.UnbindToken].
func (h *Host) RebindToken(to Recipient, other *x509.Certificate, fresh Freshness) ([]byte, error) {
	if err := h.verify(to); err != nil {
		return nil, err
	}
	var crls [][]byte
	if fresh.CRL != nil {
		crls = [][]byte{fresh.CRL}
	}
	if err := h.Trust.Verify(other, HostRole, crls, to.Now); err != nil {
		return nil, err
	}
	var id cryptobyte.Builder
	identify(to.Device).write(&id)
	content, err := id.Bytes()
	if err != nil {
		return nil, err
	}
	inner := &signed{kind: idData, content: content, certificates: [][]byte{other.Raw}}
	var b cryptobyte.Builder
	inner.write(&b, nil, true)
	encoded, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if h.Profile.BareContent {
		in := cryptobyte.String(encoded)
		var body cryptobyte.String
		if !in.ReadASN1(&body, tags.SEQUENCE) {
			return nil, ErrEncoding
		}
		encoded = body
	}
	return h.bindingToken(idSignedData, encoded, fresh)
}

func (h *Host) bindingToken(kind asn1.ObjectIdentifier, content []byte, fresh Freshness) ([]byte, error) {
	if fresh.Random == nil {
		return nil, ErrFreshness
	}
	attributes, crls, err := fresh.attributes()
	if err != nil {
		return nil, err
	}
	return (&PreparedToken{kind: kind, content: content, attributes: attributes, crls: crls}).Finish(h)
}

// Finish signs the token with h, which must be the host that prepared it, and returns it. The
// errors are what Sign returns, [ErrSign] where that is no signature by the key of h's
// certificate, and [ErrTooLarge].
func (p *PreparedToken) Finish(h *Host) ([]byte, error) {
	key, err := rsaKey(h.Certificate)
	if err != nil {
		return nil, err
	}
	kind, err := attribute(idContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(p.kind) })
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(p.content)
	message, err := octetsAttribute(idMessageDigest, digest[:])
	if err != nil {
		return nil, err
	}
	attributes := append(append([][]byte{kind}, p.attributes...), message)
	if !h.Profile.SampleOrder {
		attributes = sorted(attributes)
	}
	encoded, err := set(attributes)
	if err != nil {
		return nil, err
	}
	toSign := sha256.Sum256(encoded)
	signature, err := h.Sign(toSign[:])
	if err != nil {
		return nil, fmt.Errorf("tr34: sign the token: %w", err)
	}
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, toSign[:], signature) != nil {
		return nil, ErrSign
	}
	s := &signed{kind: p.kind, content: p.content, crls: p.crls, signer: &signer{id: identify(h.Certificate), signature: signature}}
	return s.token(attributes, h.Profile.SignedVersion1)
}
