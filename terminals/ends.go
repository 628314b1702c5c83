package terminals

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// What runs out, and stops terminals from getting keys then.
const (
	EndMakerList       = "maker-list"       // revocation list of an issuer of terminals
	EndHostList        = "host-list"        // that of a key host's authority
	EndHostCertificate = "host-certificate" // of a key host, or of one of its issuers
)

// EndKinds are all of them.
var EndKinds = []string{EndMakerList, EndHostList, EndHostCertificate}

// End is when something runs out.
type End struct {
	Kind string
	Name string // key host; of a maker's list the first 16 hex digits of SHA-256 of its issuer's key
	At   time.Time
}

// Ends returns what runs out when, for each revocation list and key host that is kept: at most
// twice [store.MaxKeyHosts] and [store.MaxRevocationLists]. A list that names no end is not among
// them.
func (d *Distribution) Ends(ctx context.Context) (ends []End, err error) {
	lists, err := d.Lists(ctx)
	if err != nil {
		return nil, err
	}
	for i := range lists {
		ends = appendEnd(ends, EndMakerList, IssuerLabel(lists[i].IssuerKey), lists[i].NextUpdate)
	}
	hosts, err := d.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		chain, err := parse(h.Certificates)
		if err != nil {
			return nil, err
		}
		first := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		ends = appendEnd(ends, EndHostCertificate, h.Name, first)
		if len(h.List) > 0 {
			list, err := x509.ParseRevocationList(h.List)
			if err != nil {
				return nil, invalid("the revocation list of key host %s cannot be read", h.Name)
			}
			ends = appendEnd(ends, EndHostList, h.Name, list.NextUpdate)
		}
	}
	return ends, nil
}

func appendEnd(ends []End, kind, name string, at time.Time) []End {
	if at.IsZero() || at.Unix() <= 0 {
		return ends
	}
	return append(ends, End{kind, name, at.UTC()})
}

// IssuerLabel is how an issuer of revocation lists is named where only a few characters may be:
// by the SHA-256 of its public key.
func IssuerLabel(key []byte) string {
	return hex.EncodeToString(key[:min(8, len(key))])
}
