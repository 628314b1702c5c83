package tr34

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Device is a key receiving device.
type Device struct {
	Certificate *x509.Certificate

	// Decrypt writes what is under RSAES-OAEP with the key of Certificate, these hashes and an
	// empty label (RFC 8017 §7.1) into out, and returns its size. Out has 32 bytes, which
	// every content key fits in.
	Decrypt func(ciphertext []byte, oaep, mgf crypto.Hash, out []byte) (int, error)

	Trust   *Trust // of hosts
	Profile Profile
}

// Expectation is what a device knows when a token comes.
type Expectation struct {
	Host   *x509.Certificate // to which the device is bound; verified again, for HostRole
	CRLs   [][]byte          // of the hosts' CA that the device keeps, in DER; those of the token are looked at besides
	Now    time.Time
	Random []byte    // the device's own, if it sent one: nil makes it one-pass
	After  time.Time // the time stamp of the last one-pass token, or of the binding; zero in two-pass
}

// Received says what came with a key.
type Received struct {
	Header string    // of X9.143
	Size   int       // of the key, in bytes
	Time   time.Time // the stamp of a one-pass token, from now on the device's After
	CRLs   [][]byte  // of the token, in DER: nobody signed which, so the device keeps the newest it ever had
}

// OpenKeyToken opens KT_KDH (TR 34-2019 B.8 one-pass, B.9 two-pass) and writes the key to the
// begin of key, which has room for it: 32 bytes are enough for any. Checked in this order:
// encoding, signer, the host's certificate, signature, freshness, algorithms, recipient, header,
// content, strength. So nothing is decrypted that the bound host did not sign. Scratch
// has [ScratchSize] bytes or more and is clear afterwards; with an error key is as it was.
//
// Whatever is wrong with the decrypted content before its host and header are compared is
// [ErrDecrypt]. A device answers one random number with one token: the caller forgets it after
// the first.
func (d *Device) OpenKeyToken(token []byte, expect Expectation, scratch, key []byte) (Received, error) {
	if len(scratch) < ScratchSize {
		return Received{}, ErrScratch
	}
	scratch = scratch[:ScratchSize]
	defer clear(scratch)
	oaep, mgf, err := d.Profile.hashes()
	if err != nil {
		return Received{}, err
	}
	own, err := rsaKey(d.Certificate)
	if err != nil {
		return Received{}, err
	}
	s, received, err := d.open(token, idEnvelopedData, expect, expect.Random == nil)
	if err != nil {
		return Received{}, err
	}
	e, err := readEnvelope(s.content, oaep, mgf)
	if err != nil {
		return Received{}, err
	}
	if !e.recipient.equal(identify(d.Certificate)) {
		return Received{}, ErrRecipient
	}
	text, err := s.signer.octets(idData)
	if err != nil {
		return Received{}, err
	}
	header, err := readHeader(text)
	if err != nil {
		return Received{}, err
	}
	b, err := d.decrypt(e, oaep, mgf, scratch)
	if err != nil {
		return Received{}, err
	}
	switch {
	case !b.host.equal(identify(expect.Host)):
		return Received{}, ErrHostMismatch
	case !bytes.Equal(b.header, text):
		return Received{}, ErrHeaderMismatch
	}
	if err := carries(own, e.cipher, header.Algorithm, len(b.clear)); err != nil {
		return Received{}, err
	}
	if len(key) < len(b.clear) {
		return Received{}, ErrOut
	}
	received.Header, received.Size = string(text), len(b.clear)
	copy(key, b.clear)
	return received, nil
}

// OpenUnbindToken checks UBT_KDH (TR 34-2019 B.14). Without an error the device forgets the
// host and all keys it has from it.
func (d *Device) OpenUnbindToken(token []byte, expect Expectation) error {
	if expect.Random == nil {
		return ErrFreshness
	}
	s, _, err := d.open(token, idData, expect, false)
	if err != nil {
		return err
	}
	return d.isRecipient(s.content)
}

// OpenRebindToken checks RBT_KDH (TR 34-2019 B.11) and returns the credential of the host to
// which the device is bound now, verified for [HostRole] with the CRLs of the token and of
// expect. The device forgets the host of before and all keys it has from it.
func (d *Device) OpenRebindToken(token []byte, expect Expectation) (*Credential, error) {
	if expect.Random == nil {
		return nil, ErrFreshness
	}
	s, received, err := d.open(token, idSignedData, expect, false)
	if err != nil {
		return nil, err
	}
	inner, err := readInner(s.content)
	if err != nil {
		return nil, err
	}
	if inner.signer != nil || inner.content == nil || !inner.kind.Equal(idData) {
		return nil, ErrStructure
	}
	if err := d.isRecipient(inner.content); err != nil {
		return nil, err
	}
	credential, err := inner.credential()
	if err != nil {
		return nil, err
	}
	all := append(append(credential.CRLs, received.CRLs...), expect.CRLs...)
	if err := d.Trust.Verify(credential.Certificate, HostRole, all, expect.Now); err != nil {
		return nil, err
	}
	credential.CRLs = append(credential.CRLs, received.CRLs...)
	return credential, nil
}

// isRecipient: content is this device's identifier and nothing else.
func (d *Device) isRecipient(content []byte) error {
	if err := wellFormed(content, 0); err != nil {
		return err
	}
	in := cryptobyte.String(content)
	id, err := readIdentifier(&in)
	if err != nil || !in.Empty() {
		return ErrStructure
	}
	if d.Certificate == nil || !id.equal(identify(d.Certificate)) {
		return ErrRecipient
	}
	return nil
}

// open checks all that the tokens of a host have in common.
func (d *Device) open(token []byte, kind asn1.ObjectIdentifier, expect Expectation, onePass bool) (*signed, Received, error) {
	if expect.Host == nil {
		return nil, Received{}, ErrDeviceNotBound
	}
	if onePass == expect.After.IsZero() {
		return nil, Received{}, ErrFreshness
	}
	s, err := readToken(token)
	if err != nil {
		return nil, Received{}, err
	}
	var received Received
	for _, der := range s.crls {
		received.CRLs = append(received.CRLs, append([]byte(nil), der...))
	}
	key, err := rsaKey(expect.Host)
	if err != nil {
		return nil, Received{}, err
	}
	if s.signer != nil && !s.signer.id.equal(identify(expect.Host)) {
		return nil, Received{}, ErrSigner
	}
	if onePass { // its own CRL must do: no random number tells that the host is good now
		if err := d.Trust.Verify(expect.Host, HostRole, received.CRLs, expect.Now); err != nil {
			return nil, Received{}, err
		}
	}
	all := append(append([][]byte(nil), expect.CRLs...), received.CRLs...)
	if err := d.Trust.Verify(expect.Host, HostRole, all, expect.Now); err != nil {
		return nil, Received{}, err
	}
	if err := s.verify(kind, identify(expect.Host), key); err != nil {
		return nil, Received{}, err
	}
	if onePass {
		if received.Time, err = s.signer.time(); err != nil {
			return nil, Received{}, err
		}
		if !received.Time.After(expect.After) {
			return nil, Received{}, ErrStale
		}
		return s, received, nil
	}
	random, err := s.signer.octets(idRandomNonce)
	if err != nil {
		return nil, Received{}, err
	}
	if len(expect.Random) < MinRandom || len(expect.Random) > MaxRandom {
		return nil, Received{}, ErrRandomSize
	}
	if subtle.ConstantTimeCompare(random, expect.Random) != 1 {
		return nil, Received{}, ErrRandom
	}
	return s, received, nil
}

// time returns the signing time: UTCTime to 2049, GeneralizedTime from then on (RFC 5652 §11.3).
func (s *signer) time() (time.Time, error) {
	value := s.values[idSigningTime.String()]
	var t time.Time
	switch {
	case value.PeekASN1Tag(tags.UTCTime):
		if value.ReadASN1UTCTime(&t) && value.Empty() {
			return t.UTC(), nil
		}
	case value.PeekASN1Tag(tags.GeneralizedTime):
		if value.ReadASN1GeneralizedTime(&t) && value.Empty() && t.UTC().Year() >= 2050 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, ErrAttribute
}

// block is a decrypted key block. It refers to scratch.
type block struct {
	host          identifier
	clear, header []byte
}

// decrypt opens the envelope in scratch.
func (d *Device) decrypt(e *envelope, oaep, mgf crypto.Hash, scratch []byte) (block, error) {
	contentKey, content := scratch[:contentKeySize], scratch[contentKeySize:]
	if len(e.content) > len(content) {
		return block{}, ErrContentTooLarge
	}
	n, err := d.Decrypt(e.wrapped, oaep, mgf, contentKey)
	if err != nil {
		return block{}, ErrDecrypt
	}
	if n != ciphers[e.cipher].key {
		return block{}, ErrContentKeySize
	}
	blocks, err := newCipher(e.cipher, contentKey[:n])
	if err != nil {
		return block{}, ErrDecrypt
	}
	content = content[:copy(content, e.content)]
	cipher.NewCBCDecrypter(blocks, e.iv).CryptBlocks(content, content)
	padding := int(content[len(content)-1])
	if padding == 0 || padding > blocks.BlockSize() {
		return block{}, ErrDecrypt
	}
	for _, p := range content[len(content)-padding:] {
		if int(p) != padding {
			return block{}, ErrDecrypt
		}
	}
	b, err := readBlock(content[:len(content)-padding])
	if err != nil {
		return block{}, ErrDecrypt
	}
	return b, nil
}

// readBlock reads a key block (TR 34-2019 B.2.2.2), with version 0 or 1 and the header as an
// attribute or bare.
func readBlock(content []byte) (block, error) {
	if err := wellFormed(content, 0); err != nil {
		return block{}, err
	}
	in := cryptobyte.String(content)
	var sequence, value cryptobyte.String
	var version int
	var b block
	if !in.ReadASN1(&sequence, tags.SEQUENCE) || !in.Empty() || !sequence.ReadASN1Integer(&version) || version != 0 && version != 1 {
		return block{}, ErrStructure
	}
	var err error
	if b.host, err = readIdentifier(&sequence); err != nil {
		return block{}, err
	}
	if !sequence.ReadASN1Bytes(&b.clear, tags.OCTET_STRING) {
		return block{}, ErrStructure
	}
	if value = sequence; sequence.PeekASN1Tag(tags.SEQUENCE) {
		var kind asn1.ObjectIdentifier
		if kind, value, err = readAttribute(&sequence); err != nil || !kind.Equal(idData) || !sequence.Empty() {
			return block{}, ErrStructure
		}
	}
	if !value.ReadASN1Bytes(&b.header, tags.OCTET_STRING) || !value.Empty() {
		return block{}, ErrStructure
	}
	return b, nil
}

// RSADecrypt returns a Decrypt function of a key in memory: for simulated devices and tests.
func RSADecrypt(key *rsa.PrivateKey) func(ciphertext []byte, oaep, mgf crypto.Hash, out []byte) (int, error) {
	return func(ciphertext []byte, oaep, mgf crypto.Hash, out []byte) (int, error) {
		plain, err := key.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: oaep, MGFHash: mgf})
		if err != nil {
			return 0, err
		}
		defer clear(plain)
		if len(plain) > len(out) {
			return 0, ErrContentKeySize
		}
		return copy(out, plain), nil
	}
}
