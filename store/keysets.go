package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// Limits of what [KeySets] keeps.
const (
	MaxKeyHosts        = 64
	MaxKeySets         = 256       // names
	MaxKeySet          = 16 << 10  // bytes of a version's content
	MaxHostKey         = 160       // bytes of the reference to a key pair
	MaxHostList        = 16 << 10  // bytes
	MaxRevocationLists = 64        // issuers
	MaxRevocationList  = 8 << 20   // bytes
	maxIssuer          = 1024      // bytes
	maxListNumber      = 64        // bytes
	maxListEntries     = 1_000_000 // which MaxRevocationList does not leave room for
)

// KeyHost is what terminals get keys from.
type KeyHost struct {
	Name         string    // as [TerminalRecord.Owner]
	Key          string    // reference to the key pair: 1 to MaxHostKey bytes of printable ASCII without spaces
	Certificates []byte    // DER behind DER, 1 to MaxCertificates bytes, opaque here
	List         []byte    // revocation list of the hosts' authority, at most MaxHostList bytes, opaque here
	ChangedAt    time.Time // as KeyRecord.CreatedAt
}

// KeySet is a version of a key set: which keys a terminal gets.
type KeySet struct {
	Name      string    // as [TerminalRecord.Owner]
	Version   uint32    // from 1, without a gap
	Content   []byte    // 1 to MaxKeySet bytes, opaque here
	CreatedAt time.Time // as KeyRecord.CreatedAt
}

// RevocationList is the newest revocation list of an issuer.
type RevocationList struct {
	IssuerKey  []byte    // SHA-256 of the issuer's public key
	Issuer     string    // for people: at most 1024 bytes of printable UTF-8
	Number     string    // decimal, at most 64 digits; empty where it has none
	Entries    uint32    //
	ThisUpdate time.Time // as KeyRecord.CreatedAt
	NextUpdate time.Time // likewise
	Digest     []byte    // SHA-256 of the list
	Issuers    []byte    // DER behind DER, at most MaxCertificates bytes, opaque here
	List       []byte    // 1 to MaxRevocationList bytes, opaque here; nil in lists of lists
	StoredAt   time.Time // as KeyRecord.CreatedAt
}

// KeySets keeps what operators say about the keys that terminals get. Its methods may be called
// concurrently, and by several processes; see [Keys] about errors.
type KeySets interface {
	// SetKeyHost adds a host, or puts it in the place of the one of its name. [ErrInvalid]
	// outside the limits, and beyond [MaxKeyHosts].
	SetKeyHost(ctx context.Context, h KeyHost) error

	// KeyHost returns a host, [ErrNotFound] where there is none; KeyHosts all, by name.
	KeyHost(ctx context.Context, name string) (KeyHost, error)
	KeyHosts(ctx context.Context) ([]KeyHost, error)

	// AddKeySet adds the next version of a key set: [ErrConflict] when it is not the next.
	// [ErrInvalid] outside the limits, and beyond [MaxKeySets].
	AddKeySet(ctx context.Context, k KeySet) error

	// KeySet returns the newest version of a key set, KeySetVersion one version, [ErrNotFound]
	// where there is none; KeySets the newest of each, by name.
	KeySet(ctx context.Context, name string) (KeySet, error)
	KeySetVersion(ctx context.Context, name string, version uint32) (KeySet, error)
	KeySets(ctx context.Context) ([]KeySet, error)

	// SetRevocationList keeps a list in the place of the one of its issuer, whose digest is
	// before, nil where there is none: otherwise [ErrConflict]. [ErrInvalid] outside the
	// limits, and beyond [MaxRevocationLists].
	SetRevocationList(ctx context.Context, l RevocationList, before []byte) error

	// RevocationList returns the list of an issuer, [ErrNotFound] where there is none;
	// RevocationLists all, in the order of their issuers' keys, without the lists themselves.
	RevocationList(ctx context.Context, issuerKey []byte) (RevocationList, error)
	RevocationLists(ctx context.Context) ([]RevocationList, error)
}

// Validate returns [ErrInvalid] for a host outside the limits; see [KeyRecord.Validate].
func (h KeyHost) Validate() error {
	switch {
	case !validTerminalName(h.Name):
		return fmt.Errorf("%w: the name of a key host has 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxTerminalName)
	case !visible(h.Key, MaxHostKey):
		return fmt.Errorf("%w: key host %s: its key has a name of 1 to %d printable ASCII characters without spaces", ErrInvalid, h.Name, MaxHostKey)
	case len(h.Certificates) == 0 || len(h.Certificates) > MaxCertificates:
		return fmt.Errorf("%w: key host %s: its certificates have 1 to %d bytes", ErrInvalid, h.Name, MaxCertificates)
	case len(h.List) > MaxHostList:
		return fmt.Errorf("%w: key host %s: the revocation list has at most %d bytes", ErrInvalid, h.Name, MaxHostList)
	case !validTime(h.ChangedAt):
		return fmt.Errorf("%w: key host %s: the time is not within the years 1970 to 9999", ErrInvalid, h.Name)
	}
	return nil
}

// Validate returns [ErrInvalid] for a key set outside the limits; see [KeyRecord.Validate].
func (k KeySet) Validate() error {
	switch {
	case !validTerminalName(k.Name) || k.Version == 0:
		return fmt.Errorf("%w: a key set has a name of 1 to %d printable ASCII characters without spaces, and versions from 1", ErrInvalid, MaxTerminalName)
	case len(k.Content) == 0 || len(k.Content) > MaxKeySet:
		return fmt.Errorf("%w: key set %s: its content has 1 to %d bytes", ErrInvalid, k.Name, MaxKeySet)
	case !validTime(k.CreatedAt):
		return fmt.Errorf("%w: key set %s: the time is not within the years 1970 to 9999", ErrInvalid, k.Name)
	}
	return nil
}

// Validate returns [ErrInvalid] for a list outside the limits; see [KeyRecord.Validate].
func (l RevocationList) Validate() error {
	if len(l.List) == 0 || len(l.List) > MaxRevocationList {
		return fmt.Errorf("%w: a revocation list has 1 to %d bytes", ErrInvalid, MaxRevocationList)
	}
	return l.validate()
}

// validate is Validate of what comes without the list itself.
func (l RevocationList) validate() error {
	switch {
	case len(l.IssuerKey) != sha256.Size || len(l.Digest) != sha256.Size:
		return fmt.Errorf("%w: a revocation list has the SHA-256 of its issuer's public key, and its own", ErrInvalid)
	case len(l.Issuer) > maxIssuer || !printable(l.Issuer) || len(l.Issuers) > MaxCertificates:
		return fmt.Errorf("%w: the issuer of a revocation list has a name of at most %d bytes of printable UTF-8, and certificates of at most %d bytes", ErrInvalid, maxIssuer, MaxCertificates)
	case len(l.Number) > maxListNumber || !digits(l.Number) || l.Entries > maxListEntries:
		return fmt.Errorf("%w: the number of a revocation list has at most %d digits, and it has at most %d entries", ErrInvalid, maxListNumber, maxListEntries)
	case !validTime(l.ThisUpdate) || !validTime(l.NextUpdate) || !validTime(l.StoredAt):
		return fmt.Errorf("%w: a time of a revocation list is not within the years 1970 to 9999", ErrInvalid)
	}
	return nil
}

func visible(s string, most int) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= most
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
