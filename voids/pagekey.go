package voids

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/big"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/pinrecord"
	"keyd/policies"
)

// PageKey is the modules' point with which a phone agrees on a key for a PIN, signed by a pair that signs
// codes.
type PageKey struct {
	Point     []byte // uncompressed, 65 bytes
	Expires   time.Time
	Signature []byte // r and s, 32 bytes each; see [hsm.PageKeyText]
	Signer    []byte // SubjectPublicKeyInfo of the pair that has signed it
}

// How long a page key's signature is good (a module signs none for longer than 15 minutes), and how much
// of that is left at least for who begins to type.
const (
	pageKeyLife = 14 * time.Minute
	pageKeyLeft = 5 * time.Minute
)

// maxPageKeys bounds what is remembered: there is more than one only while a key pair is replaced.
const maxPageKeys = 8

// pageKeys are those that were signed, by what they were made of.
type pageKeys struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]*PageKey
}

func (k *pageKeys) get(id [sha256.Size]byte, now time.Time) *PageKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.of[id]; p != nil && p.Expires.Sub(now) >= pageKeyLeft && p.Expires.Sub(now) <= pageKeyLife {
		return p
	}
	return nil
}

func (k *pageKeys) put(id [sha256.Size]byte, p *PageKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || len(k.of) >= maxPageKeys {
		k.of = make(map[[sha256.Size]byte]*PageKey)
	}
	k.of[id] = p
}

// PageKey returns the page key of the policy, signed by the pair that signs codes now. Nobody changes
// what it returns.
func (s *Service) PageKey(ctx context.Context) (*PageKey, error) {
	settings, err := s.phones(ctx)
	if err != nil {
		return nil, err
	}
	pairs, err := s.codePairs(ctx, settings)
	if err != nil {
		return nil, err
	}
	return s.pageKey(ctx, settings, &pairs[0])
}

// Page returns the key pair with which phones agree, as modules take it.
func (s *Service) Page(ctx context.Context) (hsm.Key, error) {
	settings, err := s.phones(ctx)
	if err != nil {
		return hsm.Key{}, err
	}
	page, err := s.page(ctx, settings)
	return hsm.Key{Name: page.Name, Sealed: page.Sealed}, err
}

// phones returns what the policy says of voids where it says something of phones.
func (s *Service) phones(ctx context.Context) (*policies.Voids, error) {
	settings := s.Settings(ctx)
	if settings == nil || settings.Phone == nil {
		return nil, fault.Wrap(fault.PolicyDenied, errors.New("the policy lets nothing be done on phones"))
	}
	return settings, nil
}

func (s *Service) page(ctx context.Context, settings *policies.Voids) (keys.Key, error) {
	page, err := s.pair(ctx, settings.Phone.PageKey, "phones")
	if err == nil && (page.Header.Usage != "K3" || !page.Header.CarriesRecords()) {
		err = fault.New(fault.KeyUsageMismatch, "the key "+page.Name+", which the policy names for phones, is no key pair of usage K3 with pin_kind record")
	}
	return page, err
}

func (s *Service) pageKey(ctx context.Context, settings *policies.Voids, by *codePair) (*PageKey, error) {
	page, err := s.page(ctx, settings)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(len(page.Sealed))), append(append([]byte(nil), page.Sealed...), by.Sealed...)...))
	now := s.now()
	if p := s.pageKeys.get(id, now); p != nil {
		return p, nil
	}
	p := &PageKey{Expires: now.Add(pageKeyLife).Truncate(time.Second), Signer: by.Header.Public}
	signed, err := s.Modules.SignPageKey(ctx, hsm.SignPageKey{
		PageKey: hsm.Key{Name: page.Name, Sealed: page.Sealed}, Key: hsm.Key{Name: by.Name, Sealed: by.Sealed}, ExpiresAt: p.Expires.Unix(),
	})
	if err != nil {
		return nil, err
	}
	s.Keys.Used(by.Key)
	if p.Point = signed.Point; len(p.Point) != pinrecord.PointSize {
		return nil, fault.Wrap(fault.Internal, errors.New("a module's page key is no point"))
	}
	message := binary.BigEndian.AppendUint64(append([]byte(hsm.PageKeyText), p.Point...), uint64(p.Expires.Unix()))
	digest := sha256.Sum256(message)
	var ok bool
	if p.Signature, ok = rawSignature(signed.Signature); !ok || !ecdsa.VerifyASN1(by.public, digest[:], signed.Signature) {
		return nil, fault.Wrap(fault.Internal, errors.New("a module's signature of the page key is none"))
	}
	s.pageKeys.put(id, p)
	return p, nil
}

// rawSignature is the DER of a signature on P-256 as r and s of 32 bytes each, which browsers verify.
func rawSignature(der []byte) ([]byte, bool) {
	var inner cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	input := cryptobyte.String(der)
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !input.Empty() || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) || !inner.Empty() ||
		r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 256 || s.BitLen() > 256 {
		return nil, false
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return raw, true
}
