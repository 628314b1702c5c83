package simulator

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"path/filepath"
	"sync"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyagreement"
	"keyd/keyblock"
	blocks "keyd/keyblock/software"
	"keyd/tr34"
)

// host is the other side of a device's requests, as a test needs it: it may send what keyd never
// does. The real one is met in e2e.
type host struct {
	t           *testing.T
	ca          *Authority
	key         crypto.Signer
	certificate *x509.Certificate
	list        []byte
}

// The authorities of tests: RSA keys take long to make.
var (
	theHosts = sync.OnceValues(func() (*Authority, error) { return newAuthority("Hosts", "RSA-2048") })
	theMaker = sync.OnceValues(func() (*Authority, error) { return newAuthority("Maker", "RSA-2048") })
)

// pool has key pairs for all tests by algorithm, and how many of each a test has taken: no two of
// one test are the same.
var pool = struct {
	sync.Mutex
	keys  map[string][]crypto.Signer
	taken map[string]int
}{keys: map[string][]crypto.Signer{}, taken: map[string]int{}}

func takeKey(t *testing.T, algorithm string) crypto.Signer {
	t.Helper()
	pool.Lock()
	defer pool.Unlock()
	of := t.Name() + " " + algorithm
	n := pool.taken[of]
	pool.taken[of]++
	if n == len(pool.keys[algorithm]) {
		key, err := GenerateKey(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		pool.keys[algorithm] = append(pool.keys[algorithm], key)
	}
	return pool.keys[algorithm][n]
}

func newHost(t *testing.T, algorithm string) *host {
	t.Helper()
	ca, err := theHosts()
	if err != nil {
		t.Fatal(err)
	}
	return newHostOf(t, ca, algorithm)
}

func newHostOf(t *testing.T, ca *Authority, algorithm string) *host {
	t.Helper()
	h := &host{t: t, ca: ca, key: takeKey(t, algorithm)}
	der, err := ca.sign(&x509.Certificate{NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}, h.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if h.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if h.list, err = ca.List(); err != nil {
		t.Fatal(err)
	}
	return h
}

// credential is CT_KDH.
func (h *host) credential() []byte {
	h.t.Helper()
	token, err := tr34.CredentialToken(h.certificate, h.list)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// given is a key that the host sends.
type given struct {
	said   *keydv1.InjectedKey
	header keyblock.Header
	value  []byte
}

// keys are what keyd sends to a terminal with AES keys.
func keys() []given {
	header := func(usage string, algorithm, mode byte) keyblock.Header {
		return keyblock.Header{Version: 'D', Usage: usage, Algorithm: algorithm, Mode: mode, KeyVersion: "00", Exportability: 'N', Reserved: "00"}
	}
	ik, ks := [8]byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56}, [10]byte{0xFF, 0xFF, 0x98, 0x76, 0x54, 0x32, 0x10, 0xE0}
	value := func(n, size int) []byte { return bytes.Repeat([]byte{byte(n)}, size) }
	aes, tdes := header("B1", 'A', 'X'), header("B1", 'T', 'X')
	aes.Blocks, tdes.Blocks = []keyblock.Optional{keyblock.NewIK(ik)}, []keyblock.Optional{keyblock.NewKS(ks)}
	said := func(name, usage, algorithm string, length uint32, id string, number []byte) *keydv1.InjectedKey {
		return &keydv1.InjectedKey{Name: name, Usage: usage, Algorithm: algorithm, Length: length, KeyId: id, KeySerialNumber: number}
	}
	return []given{
		{said("master", "K1", "A", 16, "", nil), header("K1", 'A', 'D'), value(1, 16)},
		{said("receipt", "M6", "A", 16, "", nil), header("M6", 'A', 'G'), value(2, 16)},
		{said("pin", "B1", "A", 16, "bdk-aes", ik[:]), aes, value(3, 16)},
		{said("data", "B1", "T", 16, "bdk-tdes", ks[:]), tdes, append(value(4, 8), value(5, 8)...)},
	}
}

// wrap writes a key block of version B or D.
func wrap(t *testing.T, p blocks.Protection, h keyblock.Header, value []byte) string {
	t.Helper()
	if p.Algorithm == 'T' {
		h.Version = 'B'
	}
	from, err := blocks.Cipher(p.Algorithm, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	size := (2 + 32 + from.BlockSize() - 1) / from.BlockSize() * from.BlockSize()
	text, err := h.Encode(2 * (size + from.BlockSize()))
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, size)
	binary.BigEndian.PutUint16(payload, uint16(8*len(value)))
	copy(payload[2:], value)
	encryption, authentication := derived(t, p)
	code := blocks.CMAC(authentication, append(bytes.Clone(text), payload...))
	cipher.NewCBCEncrypter(encryption, code).CryptBlocks(payload, payload)
	return string((&keyblock.Block{Header: h, HeaderText: text, Encrypted: payload, MAC: code}).Text())
}

func derived(t *testing.T, p blocks.Protection) (encryption, authentication cipher.Block) {
	t.Helper()
	from, err := blocks.Cipher(p.Algorithm, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	var made []cipher.Block
	for usage := range byte(2) {
		var key []byte
		algorithm := byte(len(p.Key)/8 - 2)
		if p.Algorithm == 'A' {
			algorithm = byte(len(p.Key) / 8)
		}
		for counter := byte(1); len(key) < len(p.Key); counter++ {
			key = append(key, blocks.CMAC(from, []byte{counter, 0, usage, 0, 0, algorithm, byte(len(p.Key) * 8 >> 8), byte(len(p.Key) * 8)})...)
		}
		c, err := blocks.Cipher(p.Algorithm, key[:len(p.Key)])
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, c)
	}
	return made[0], made[1]
}

func said(all []given) (out []*keydv1.InjectedKey) {
	for _, k := range all {
		out = append(out, k.said)
	}
	return out
}

var injectionID = hex.EncodeToString(bytes.Repeat([]byte{0xAB}, 16))

// agree answers a key agreement.
func (h *host) agree(request []byte, all []given) *keydv1.InjectKeysResponse {
	h.t.Helper()
	r, err := keyagreement.ReadRequest(request)
	if err != nil {
		h.t.Fatal(err)
	}
	protection := make([]byte, r.Curve.KeySize())
	side, err := r.Agree(rand.Reader, []*x509.Certificate{h.certificate}, protection)
	if err != nil {
		h.t.Fatal(err)
	}
	var texts []string
	for _, k := range all {
		texts = append(texts, wrap(h.t, blocks.Protection{Algorithm: 'A', Key: protection}, k.header, k.value))
	}
	answer, err := side.Answer(texts, func(digest []byte, hash crypto.Hash) ([]byte, error) { return h.key.Sign(rand.Reader, digest, hash) })
	if err != nil {
		h.t.Fatal(err)
	}
	return &keydv1.InjectKeysResponse{InjectionId: injectionID, Answer: answer, Keys: said(all)}
}

// side is the host's side of TR-34, which takes any device.
func (h *host) side(maker *Authority) *tr34.Host {
	return &tr34.Host{
		Certificate: h.certificate,
		Sign:        func(digest []byte) ([]byte, error) { return h.key.Sign(rand.Reader, digest, crypto.SHA256) },
		Trust:       &tr34.Trust{Roots: []*x509.Certificate{maker.Certificate, h.ca.Certificate}, DeviceCAs: []*x509.Certificate{maker.Certificate}, HostCAs: []*x509.Certificate{h.ca.Certificate}},
	}
}

// token answers a request by TR-34.
func (h *host) token(maker *Authority, device *x509.Certificate, fresh tr34.Freshness, all []given) *keydv1.InjectKeysResponse {
	h.t.Helper()
	header, err := all[0].header.Encode(0)
	if err != nil {
		h.t.Fatal(err)
	}
	answer, err := h.side(maker).KeyToken(rand.Reader, tr34.Recipient{Device: device, Now: time.Now()}, tr34.Key{Header: string(header), Clear: all[0].value}, fresh, make([]byte, tr34.ScratchSize))
	if err != nil {
		h.t.Fatal(err)
	}
	r := &keydv1.InjectKeysResponse{InjectionId: injectionID, Answer: answer, Keys: said(all)}
	for _, k := range all[1:] {
		r.KeyBlocks = append(r.KeyBlocks, wrap(h.t, blocks.Protection{Algorithm: all[0].header.Algorithm, Key: all[0].value}, k.header, k.value))
	}
	return r
}

// newDevice makes a device of a maker that believes an authority's hosts.
func newDevice(t *testing.T, algorithm string, maker, hosts *Authority) (*Device, *x509.Certificate) {
	t.Helper()
	key := takeKey(t, algorithm)
	d, err := NewDevice(filepath.Join(t.TempDir(), "device.json"), "t-1", "", key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := maker.Device("t-1", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetCertificates([][]byte{der}); err != nil {
		t.Fatal(err)
	}
	if err := d.BelieveHosts([][]byte{hosts.Certificate.Raw}); err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

func newMaker(t *testing.T) *Authority {
	t.Helper()
	maker, err := theMaker()
	if err != nil {
		t.Fatal(err)
	}
	return maker
}

func mustAsk(t *testing.T, d *Device, m keydv1.InjectionMethod, o AskOptions) *Request {
	t.Helper()
	r, err := d.Ask(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustBind(t *testing.T, d *Device, h *host) {
	t.Helper()
	if err := d.Bind([][]byte{h.certificate.Raw}, h.list, h.credential()); err != nil {
		t.Fatal(err)
	}
}
