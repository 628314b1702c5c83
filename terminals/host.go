package terminals

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"keyd/fault"
	"keyd/keys"
	"keyd/store"
)

// KeyHost is what terminals get keys from.
type KeyHost struct {
	Name         string   // see [ValidOwner]
	Key          string   // reference to a key pair (usage S0)
	Certificates [][]byte // DER: of the key pair, then its issuers in their order without the root
	List         []byte   // revocation list of the hosts' authority in DER; may be nil
	Credential   []byte   // CT_KDH; nil of a pair that is not RSA
	Changed      time.Time
}

// SetHost adds a host, or gives one other certificates. The certificates and the list are looked
// at for being what they should be; whether terminals believe them is for those to say.
//
// Its refusals are [fault.RequestInvalid], [fault.CertificateInvalid], those of [Keys.Resolve],
// and [fault.KeyUsageMismatch] for a key that is no key pair of a host.
func (d *Distribution) SetHost(ctx context.Context, h KeyHost) (*KeyHost, error) {
	switch {
	case !ValidOwner(h.Name):
		return nil, fault.New(fault.RequestInvalid, "key_host.name has 1 to 64 letters, digits and ._-, the first a letter or a digit")
	case !keys.ValidReference(h.Key):
		return nil, fault.New(fault.RequestInvalid, "key_host.key_id is the name of a key, NAME?version=N or an alias")
	case len(h.List) > store.MaxHostList:
		return nil, fault.New(fault.RequestInvalid, "key_host.revocation_list has at most 16 KiB")
	}
	chain, err := hostChain(h.Certificates)
	if err != nil {
		return nil, err
	}
	if len(h.List) > 0 {
		list, err := x509.ParseRevocationList(h.List)
		if err != nil || len(list.Raw) != len(h.List) {
			return nil, invalid("key_host.revocation_list cannot be read as a revocation list in DER")
		}
	}
	if _, err := d.pair(ctx, h.Key, chain[0]); err != nil {
		return nil, err
	}
	r := store.KeyHost{Name: h.Name, Key: h.Key, Certificates: slices.Concat(h.Certificates...), List: h.List, ChangedAt: d.inventory.now()}
	made, err := host(&r) // so that nothing is kept that no terminal can be given
	if err != nil {
		return nil, err
	}
	if len(h.Credential) > 0 && !bytes.Equal(h.Credential, made.Credential) {
		return nil, fault.New(fault.RequestInvalid, "key_host.credential_token is made by keyd: leave it empty")
	}
	if err := d.store.SetKeyHost(ctx, r); err != nil {
		if errors.Is(err, store.ErrInvalid) {
			return nil, fault.New(fault.RequestInvalid, fmt.Sprintf("there are at most %d key hosts", store.MaxKeyHosts))
		}
		return nil, refused(ctx, err)
	}
	return made, nil
}

// hostChain reads a host's certificates: each is signed with the key of the next.
func hostChain(ders [][]byte) ([]*x509.Certificate, error) {
	chain, err := parse(ders)
	if err != nil {
		return nil, err
	}
	for i, c := range chain {
		switch {
		case bytes.Equal(c.RawSubject, c.RawIssuer):
			return nil, invalid("certificate %d of %d is a root, which terminals have themselves", i+1, len(chain))
		case i+1 < len(chain) && c.CheckSignatureFrom(chain[i+1]) != nil:
			return nil, invalid("certificate %d of %d is not signed by the next one", i+1, len(chain))
		}
	}
	if chain[0].IsCA {
		return nil, invalid("the first certificate is an authority's: that of the key pair comes first")
	}
	return chain, nil
}

// pair returns the key pair of a host, which is that of its certificate.
func (d *Distribution) pair(ctx context.Context, reference string, certificate *x509.Certificate) (keys.Key, error) {
	k, err := d.usable(ctx, reference)
	if err != nil {
		return keys.Key{}, err
	}
	switch {
	case k.Header.Usage != "S0" || len(k.Header.Public) == 0:
		return keys.Key{}, fault.New(fault.KeyUsageMismatch, "the key of a host is a key pair of usage S0")
	case !bytes.Equal(k.Header.Public, certificate.RawSubjectPublicKeyInfo):
		return keys.Key{}, invalid("the first certificate of the key host is of another public key than that of its key pair")
	}
	return k, nil
}

// usable resolves a key, and refuses one that may not be used now.
func (d *Distribution) usable(ctx context.Context, reference string) (keys.Key, error) {
	k, err := d.keys.Resolve(ctx, reference)
	if err != nil {
		return keys.Key{}, err
	}
	return k, k.CheckUsable(d.inventory.now())
}

// Hosts returns all key hosts, by name.
func (d *Distribution) Hosts(ctx context.Context) ([]*KeyHost, error) {
	records, err := d.store.KeyHosts(ctx)
	if err != nil {
		return nil, refused(ctx, err)
	}
	list := make([]*KeyHost, len(records))
	for i := range records {
		if list[i], err = host(&records[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Host returns a key host. [fault.KeySetNotFound] where there is none.
func (d *Distribution) Host(ctx context.Context, name string) (*KeyHost, error) {
	r, err := d.store.KeyHost(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.KeySetNotFound, "there is no key host of that name")
	case err != nil:
		return nil, refused(ctx, err)
	}
	return host(&r)
}

// HostOf returns the host from which a terminal gets keys by a method. [fault.KeySetNotFound]
// where the terminal has no key set, [fault.RequestInvalid] where that does not have the method.
func (d *Distribution) HostOf(ctx context.Context, terminal string, m Method) (*KeyHost, error) {
	r, err := d.inventory.record(ctx, terminal)
	if err != nil {
		return nil, err
	}
	set, err := d.keySetOf(ctx, &r)
	if err != nil {
		return nil, err
	}
	return d.hostBy(ctx, set, m)
}

var errMethod = fault.New(fault.RequestInvalid, "the terminal's key set does not have this method")

func (d *Distribution) hostBy(ctx context.Context, set *KeySet, m Method) (*KeyHost, error) {
	if !slices.Contains(set.Methods, m) {
		return nil, errMethod
	}
	if m.token() {
		return d.Host(ctx, set.TokenHost)
	}
	return d.Host(ctx, set.AgreementHost)
}

// host makes a host of what is kept.
func host(r *store.KeyHost) (*KeyHost, error) {
	chain, err := x509.ParseCertificates(r.Certificates)
	if err != nil || len(chain) == 0 || len(chain) > MaxChain {
		return nil, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("key host %s: %w", r.Name, store.ErrCorrupt))
	}
	h := &KeyHost{Name: r.Name, Key: r.Key, List: r.List, Changed: r.ChangedAt}
	for _, c := range chain {
		h.Certificates = append(h.Certificates, c.Raw)
	}
	if _, ok := chain[0].PublicKey.(*rsa.PublicKey); ok {
		if h.Credential, err = credential(chain[0], r.List); err != nil {
			return nil, invalid("no credential token (CT_KDH) can be made of the host's certificate and revocation list")
		}
	}
	return h, nil
}
