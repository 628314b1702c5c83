// Package injection gives terminals their keys over the network: a master key of their own, a key
// for their receipt, and DUKPT initial keys; then it checks the receipt, and makes session keys.
//
// Rules. Keys leave for a device only if its certificate ends at an authority that officers
// believe for terminals and its public key is the one that the front has registered; a base
// derivation key's initial keys only by a host whose key pair officers have named (injection_hosts,
// sealed with it). Nothing travels under what is weaker. Before anything leaves, the ledger has on
// the disk that each initial key belongs to that device, and that its request was answered with
// this choice of keys. All of that is decided here, whatever the front says. Clear keys are in
// locked memory while they are sealed and wrapped; what the token makes of them on the way is
// destroyed.
//
// Master keys, receipt keys and session keys stay with the front, sealed. Their headers name the
// device, and are good by their seal: the register does not have them. Their names follow from the
// terminal's, by the module.
//
// Units: sizes are bytes, strengths bits (NIST SP 800-57 part 1, table 2), times Unix seconds.
//
// Only hsm/module uses it.
package injection

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
	"keyd/receipt"
	"keyd/tr34"
)

// MaxKeys is how many initial keys go at once.
const MaxKeys = receipt.MaxKeys - 2

// Engine carries injections out. It is safe for concurrent use; each has a session of its own.
type Engine struct {
	keys     *working.Keys
	masters  *sealing.Set
	register *register.Register
	ledger   *ledger.Ledger
	identity Identity
}

// Identity is the token's, which signs what terminals have confirmed.
type Identity interface {
	SignReceipt(s *token.Session, record *receipt.Record, r *receipt.Receipt, at int64) ([]byte, error)
}

// New returns an engine.
func New(keys *working.Keys, masters *sealing.Set, r *register.Register, given *ledger.Ledger, identity Identity) *Engine {
	return &Engine{keys: keys, masters: masters, register: r, ledger: given, identity: identity}
}

// Request is what injections by every method have in common.
type Request struct {
	hsm.Injection
	Certificates []*x509.Certificate // HostCertificates, parsed
}

// check looks at the shape of a request ([fault.RequestInvalid]).
func (r *Request) check() error {
	if len(r.Certificates) == 0 || len(r.Keys) > MaxKeys || !ValidTerminal(r.Terminal) {
		return fault.New(fault.RequestInvalid, "")
	}
	if _, err := sealing.KeyType(r.Master.Algorithm, r.Master.Length); err != nil || r.Master.Algorithm == "H" {
		return fault.New(fault.RequestInvalid, "a master key is TDES of 16 or 24 bytes, or AES of 16, 24 or 32")
	}
	for i := range r.Keys {
		name := r.Keys[i].Name
		if !validName(name) || slices.ContainsFunc(r.Keys[:i], func(k hsm.InitialKey) bool { return k.Name == name }) {
			return fault.New(fault.RequestInvalid, "each initial key has a name of its own: 1 to 16 lower-case letters and digits, neither master nor receipt")
		}
	}
	return nil
}

// ValidTerminal reports whether a text can be a terminal's identifier: 1 to 64 letters, digits and
// ._-, the first a letter or a digit.
func ValidTerminal(id string) bool {
	for i := range len(id) {
		c := id[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !plain && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 64
}

// validName is what a key's name may be among those of its terminal.
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 16 && name != receipt.MasterName && name != receipt.ReceiptName
}

// believe checks a device's certificates, and that its public key is the one that is asked for.
func (e *Engine) believe(device ledger.Device, chain []*x509.Certificate, usage x509.KeyUsage) (epoch *ceremony.Epoch, now time.Time, err error) {
	if epoch, err = e.register.Current(); err != nil {
		return nil, now, err
	}
	now = e.register.Now()
	anchors, err := epoch.Anchors(ceremony.UseTerminals, now)
	if err != nil {
		return nil, now, err
	}
	if err := anchors.Verify(chain, usage, nil, now); err != nil {
		return nil, now, err
	}
	if deviceOf(chain[0]) != device {
		return nil, now, fault.New(fault.PublicKeyKnown, "")
	}
	return epoch, now, nil
}

// host finds the key pair with which the host signs.
func (e *Engine) host(s *token.Session, key hsm.Key, certificates []*x509.Certificate) (*hsm.Header, token.Pair, error) {
	h, pair, err := working.Signing(s, e.masters, e.register, key)
	if err != nil {
		return nil, pair, err
	}
	if h.Usage != "S0" {
		return nil, pair, fault.New(fault.KeyUsageMismatch, "a host signs with a key pair of usage S0")
	}
	if public, ok := pair.Public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certificates[0].PublicKey) {
		return nil, pair, fault.New(fault.RequestInvalid, "the host's certificate is of another key pair")
	}
	return h, pair, nil
}

// strength is that of a key.
func strength(algorithm string, length int) int { return tr34.KeyStrength(algorithm[0], length) }

// named is a key in a sentence.
func named(algorithm string, length int) string {
	if algorithm == "A" {
		return fmt.Sprintf("an AES key of %d bits", 8*length)
	}
	return fmt.Sprintf("a TDES key of %d parts", length/8)
}

// version is that of key blocks under a key.
func version(algorithm string) byte {
	if algorithm == "A" {
		return 'D'
	}
	return 'B'
}

// sealedName is the name of a terminal's key.
func sealedName(terminal, name string) string { return hsm.TerminalPrefix + terminal + ":" + name }

func deviceHex(d ledger.Device) string { return hex.EncodeToString(d[:]) }
