// Package injection gives terminals their initial keys over the network.
//
// Rules. A key leaves for a device only if the device's certificate ends at an authority that
// officers believe for terminals, its base derivation key may be injected (injection_hosts, sealed
// with it), what it travels under is at least as strong as it, and the ledger has it on the disk
// that the key belongs to that device. All of that is decided here, whatever the front says. The
// clear key is in the session's locked memory while it is wrapped.
package injection

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/initialkey"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
	"keyd/keyagreement"
	"keyd/keyblock"
)

// MaxKeys is how many initial keys go at once.
const MaxKeys = 8

// Engine carries injections out. It is safe for concurrent use; each has a session of its own.
type Engine struct {
	keys     *working.Keys
	masters  *sealing.Set
	register *register.Register
	ledger   *ledger.Ledger
}

// New returns an engine.
func New(keys *working.Keys, masters *sealing.Set, r *register.Register, given *ledger.Ledger) *Engine {
	return &Engine{keys: keys, masters: masters, register: r, ledger: given}
}

// InitialKey names an initial key.
type InitialKey struct {
	BDK hsm.Key
	ID  []byte // 10 bytes of a TDES BDK, 8 of an AES BDK
}

// Agreement is an injection by key agreement (package keyagreement).
type Agreement struct {
	Request      []byte              // the terminal's
	Host         hsm.Key             // key pair with which the host signs
	Certificates []*x509.Certificate // the host's: the first is of that key pair
	Lists        []*x509.RevocationList
	Keys         []InitialKey // 1 to MaxKeys
}

// Injected is what goes to the terminal, and what is kept of it.
type Injected struct {
	Answer      []byte
	Device      ledger.Device // the device's public key
	CheckValues []string      // of the initial keys, in their order
}

// Where things lie in the locked memory of an injection.
const (
	protectionAt = 0
	initialAt    = 64
	memorySize   = initialAt + MaxKeys*initialkey.MaxSize
)

// Agree answers a terminal's request. Errors are refusals of package fault, those of packages
// keyagreement and trust, and the token's. After an error nothing leaves, though keys may be
// bound to the device.
func (e *Engine) Agree(s *token.Session, a *Agreement) (out *Injected, err error) {
	if len(a.Certificates) == 0 || len(a.Keys) == 0 || len(a.Keys) > MaxKeys {
		return nil, fault.New(fault.RequestInvalid, "")
	}
	request, err := keyagreement.ReadRequest(a.Request)
	if err != nil {
		return nil, err
	}
	if err := e.believe(request.Certificates, x509.KeyUsageDigitalSignature, a.Lists); err != nil {
		return nil, err
	}
	pair, err := e.host(s, a.Host, a.Certificates)
	if err != nil {
		return nil, err
	}
	region, err := locked.New(memorySize)
	if err != nil {
		return nil, err
	}
	defer region.Free()
	size := request.Curve.KeySize()
	protection := region.Bytes()[protectionAt : protectionAt+size]
	var host *keyagreement.Host
	erase.Do(func() { host, err = request.Agree(rand.Reader, a.Certificates, protection) })
	if err != nil {
		return nil, err
	}
	kbpk := keyblocks.KBPK{Algorithm: "A", Length: size}
	if kbpk.Key, err = s.Import(pkcs11.CKK_AES, token.MaySign, protection); err != nil {
		return nil, err
	}
	defer func() {
		if gone := s.Destroy(kbpk.Key); gone != nil {
			out, err = nil, errors.Join(err, gone)
		}
	}()
	injected := &Injected{Device: sha256.Sum256(request.Certificates[0].RawSubjectPublicKeyInfo)}
	blocks, err := e.wrap(s, kbpk, a.Keys, region.Bytes()[initialAt:], injected)
	if err != nil {
		return nil, err
	}
	signer := s.Signer(pair)
	injected.Answer, err = host.Answer(blocks, func(digest []byte, hash crypto.Hash) ([]byte, error) { return signer.Sign(nil, digest, hash) })
	if err != nil {
		return nil, err
	}
	return injected, nil
}

// believe checks a device's certificates.
func (e *Engine) believe(chain []*x509.Certificate, usage x509.KeyUsage, lists []*x509.RevocationList) error {
	epoch, err := e.register.Current()
	if err != nil {
		return err
	}
	now := e.register.Now()
	anchors, err := epoch.Anchors(ceremony.UseTerminals, now)
	if err != nil {
		return err
	}
	return anchors.Verify(chain, usage, lists, now)
}

// host finds the key pair with which the host signs.
func (e *Engine) host(s *token.Session, key hsm.Key, certificates []*x509.Certificate) (token.Pair, error) {
	pair, err := working.Signing(s, e.masters, e.register, key)
	if err != nil {
		return pair, err
	}
	if public, ok := pair.Public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certificates[0].PublicKey) {
		return pair, fault.New(fault.RequestInvalid, "the host's certificate is of another key pair")
	}
	return pair, nil
}

// wrap derives initial keys, has the ledger bind all of them to the device, and wraps them.
func (e *Engine) wrap(s *token.Session, kbpk keyblocks.KBPK, keys []InitialKey, memory []byte, out *Injected) (blocks []string, err error) {
	var entries []ledger.Entry
	var headers []*keyblock.Header
	var values [][]byte
	for n := range keys {
		k := &keys[n]
		bdk, err := e.keys.Open(s, k.BDK)
		if err != nil {
			return nil, err
		}
		initial, check, err := e.derive(s, &bdk, k.ID, memory[n*initialkey.MaxSize:][:initialkey.MaxSize], kbpk.Length)
		if err == nil {
			entries = append(entries, ledger.NewEntry(bdk.Header.Fingerprint, initial.ID, out.Device))
			headers, values = append(headers, initial.Header('D', 'N', bdk.Header)), append(values, initial.Value)
			out.CheckValues = append(out.CheckValues, check)
		}
		bdk.Release()
		if err != nil {
			return nil, err
		}
	}
	if err := ledger.Refusal(e.ledger.Bind(entries...)); err != nil {
		return nil, err
	}
	for n := range keys {
		block, err := keyblocks.Wrap(s, kbpk, headers[n], values[n])
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, string(block))
	}
	return blocks, nil
}

func (e *Engine) derive(s *token.Session, bdk *sealing.Key, id, memory []byte, protection int) (i initialkey.Initial, check string, err error) {
	h := bdk.Header
	if err := initialkey.Check(h); err != nil {
		return i, "", err
	}
	if len(h.InjectionHosts) == 0 {
		return i, "", fault.New(fault.KeyUsageMismatch, "officers have not allowed that its initial keys go to terminals over the network (injection_hosts)")
	}
	if i, err = initialkey.Derive(s, bdk, id, memory); err != nil {
		return i, "", err
	}
	// AES keys are as strong as they are long; a TDES key of two parts has 80 bits.
	if h.Algorithm == "A" && len(i.Value) > protection {
		return i, "", fault.New(fault.ExportForbidden, fmt.Sprintf("an AES key of %d bits takes a curve that is as strong: P-256 carries 128, P-384 192, P-521 256", 8*len(i.Value)))
	}
	check, err = sealing.CheckValue(s, h.Algorithm, i.Value)
	return i, check, err
}
