package injection

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/token"
	"keyd/receipt"
	"keyd/tr34"
)

// Token is an injection by a key token of TR-34 (package tr34).
type Token struct {
	Request
	Device  []*x509.Certificate // the device's, its own first
	Random  []byte              // of the device; nil in one-pass
	List    []byte              // revocation list of the hosts' authority in DER; nil: none
	Profile tr34.Profile        // its content cipher is chosen here
}

// sends is what the key usage of a device that gets a key token may say: of those in use some have
// digitalSignature alone.
const sends = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageDigitalSignature

// Token makes a key token with the master key, and key blocks of all other keys under the master
// key. Errors are refusals of package fault, those of packages tr34 and trust, and the token's.
// After an error nothing leaves, though keys may be bound to the device.
func (e *Engine) Token(s *token.Session, t *Token) (*hsm.Injected, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if t.Master.Bare {
		return nil, fault.New(fault.RequestInvalid, "a bare master key (K0) protects no key blocks, in which TR-34 sends the other keys: it goes by key agreement only")
	}
	method := receipt.ByTwoPass
	if t.Random == nil {
		method = receipt.ByOnePass
	}
	if t.Random == nil && t.List == nil {
		return nil, fault.New(fault.RequestInvalid, "one-pass needs the revocation list of the hosts' authority")
	}
	device, err := rsaKey(t.Device, "device")
	if err != nil {
		return nil, err
	}
	if _, err := rsaKey(t.Certificates, "host"); err != nil {
		return nil, err
	}
	if t.List != nil {
		if _, err := x509.ParseRevocationList(t.List); err != nil {
			return nil, tr34.ErrCRL
		}
	}
	w, err := e.begin(s, &t.Request, method, t.Device, sends)
	if err != nil {
		return nil, err
	}
	defer w.end()
	bits := device.N.BitLen()
	if err := w.make(tr34.Strength(bits), fmt.Sprintf("the device's RSA key of %d bits; RSA-2048 carries TDES, RSA-3072 AES-128, RSA-7680 AES-192", bits), false); err != nil {
		return nil, err
	}
	if t.Random != nil {
		asked := askedByRandom(t.Request.Device, t.Random)
		w.asked = &asked
	}
	if err := w.bind(); err != nil {
		return nil, err
	}
	master := w.keys[0]
	if w.out.KeyBlocks, err = w.wrap(w.keys[1:], t.Master.Algorithm, master.value); err != nil {
		return nil, err
	}
	if w.out.Answer, err = w.keyToken(t, &master); err != nil {
		return nil, err
	}
	return &w.out, nil
}

// keyToken makes the key token with the master key.
func (w *work) keyToken(t *Token, master *leaving) ([]byte, error) {
	h := master.block
	h.Version = version(t.Master.Algorithm)
	header, err := h.Encode(0)
	if err != nil {
		return nil, err
	}
	t.Profile.Content = t.Profile.ContentCipher(t.Master.Algorithm[0], t.Master.Length)
	host := tr34Host(w.session.Signer(w.pair), t.Certificates[0], verified{device: t.Device[0]}, t.Profile)
	fresh := tr34.Freshness{Random: t.Random, CRL: t.List}
	if t.Random == nil {
		fresh.Time = w.now
	}
	var prepared *tr34.PreparedToken
	erase.Do(func() {
		prepared, err = host.PrepareKeyToken(rand.Reader, tr34.Recipient{Device: t.Device[0], Now: w.now},
			tr34.Key{Header: string(header), Clear: master.value}, fresh, w.memory(tokenAt, tr34.ScratchSize))
	})
	if err != nil {
		return nil, err
	}
	return prepared.Finish(host)
}

// tr34Host is the host as package tr34 knows it: the token signs for it.
func tr34Host(signer crypto.Signer, certificate *x509.Certificate, good verified, p tr34.Profile) *tr34.Host {
	return &tr34.Host{
		Certificate: certificate, Trust: good, Profile: p,
		Sign: func(digest []byte) ([]byte, error) { return signer.Sign(nil, digest, crypto.SHA256) },
	}
}

// verified has the certificates that the register's authorities vouch for.
type verified struct{ device, host *x509.Certificate }

// Verify implements [tr34.Verifier].
func (v verified) Verify(c *x509.Certificate, role tr34.Role, _ [][]byte, _ time.Time) error {
	good := v.device
	if role == tr34.HostRole {
		good = v.host
	}
	if good == nil || c == nil || !good.Equal(c) {
		return tr34.ErrForeign
	}
	return nil
}

// askedByRandom names what a device asks for with a random number, which it does not sign.
func askedByRandom(device ledger.Device, random []byte) [sha256.Size]byte {
	return sha256.Sum256(append(append([]byte("keyd TR-34 request 1\x00"), device[:]...), random...))
}

// rsaKey returns the key of the first certificate, which TR-34 wants to be RSA.
func rsaKey(chain []*x509.Certificate, whose string) (*rsa.PublicKey, error) {
	if len(chain) == 0 {
		return nil, fault.New(fault.RequestInvalid, "")
	}
	key, ok := chain[0].PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fault.New(fault.RequestInvalid, "the "+whose+"'s key is not RSA, which TR-34 wants: use key agreement")
	}
	return key, nil
}
