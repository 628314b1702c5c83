package pinrecords

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"slices"
	"sync"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
)

// maxPairs is how many key pairs are remembered.
const maxPairs = 16

// pairs remembers key pairs that were found, by their sealed headers: to find one and prove that its
// halves belong together takes longer than all the rest of a void. Whether one may be used is asked
// of the register each time.
type pairs struct {
	mu    sync.Mutex
	known map[string]foundPair
}

type foundPair struct {
	header *hsm.Header
	digest string
	pair   token.Pair
}

// forget has all pairs found anew.
func (p *pairs) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = nil
}

func (p *pairs) get(sealed []byte) (foundPair, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.known[string(sealed)]
	return f, ok
}

func (p *pairs) put(sealed []byte, f foundPair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPairs {
		p.known = make(map[string]foundPair)
	}
	p.known[string(sealed)] = f
}

// pair finds a key pair that has a use.
func (e *Engine) pair(s *token.Session, key hsm.Key, use token.PairUse) (foundPair, error) {
	f, known := e.pairs.get(key.Sealed)
	if known && f.pair.Use == use {
		if f.header.Name != key.Name {
			return foundPair{}, fault.New(fault.KeySealInvalid, "")
		}
		if err := e.register.Admit(f.header, f.digest); err != nil {
			return foundPair{}, err
		}
		if !f.header.ValidAt(e.register.Now()) {
			return foundPair{}, fault.New(fault.KeyDisabled, "")
		}
		return f, nil
	}
	var err error
	if f.header, f.pair, err = working.Pair(s, e.masters, e.register, key, use); err != nil {
		return foundPair{}, err
	}
	if f.digest, err = ceremony.HeaderDigest(f.header); err != nil {
		return foundPair{}, err
	}
	e.pairs.put(key.Sealed, f)
	return f, nil
}

// signing finds a key pair that signs tokens, or codes, on one of some curves.
func (e *Engine) signing(s *token.Session, key hsm.Key, curves ...elliptic.Curve) (token.Pair, error) {
	f, err := e.pair(s, key, token.PairSigns)
	if err != nil {
		return token.Pair{}, err
	}
	public, ok := f.pair.Public.(*ecdsa.PublicKey)
	if f.header.Usage != "S0" || !ok || !slices.Contains(curves, public.Curve) {
		return token.Pair{}, fault.New(fault.KeyUsageMismatch, "void tokens are signed with a key pair of usage S0 on P-256 or P-384, codes with one on P-256")
	}
	return f.pair, nil
}
