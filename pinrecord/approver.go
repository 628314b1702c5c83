package pinrecord

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"strings"

	"keyd/voidtoken"
)

// ErrApprover is returned for a certificate that is no approver's.
var ErrApprover = errors.New("an approver's certificate has an ECDSA key on P-256, P-384 or P-521, and one URI SAN: spiffe://DOMAIN/merchants/MERCHANT/NAME or spiffe://DOMAIN/approvers/NAME")

// Approver is who has signed.
type Approver struct {
	ID       string // SPIFFE ID
	Merchant string // for whom; empty: for any
	Name     string
	Key      *ecdsa.PublicKey
}

// MayApproveFor reports whether the approver may approve what is about a merchant; about none
// (""), only who may for any.
func (a *Approver) MayApproveFor(merchant string) bool {
	return a.Merchant == "" || a.Merchant == merchant
}

// Same reports whether two approvers may be one person: by name, whatever domain or merchant it is in
// and however it is capitalised, or by key.
func (a *Approver) Same(b *Approver) bool {
	return strings.EqualFold(a.Name, b.Name) || a.Key.Equal(b.Key)
}

// ApproverOf reads an approver's certificate. Whether it is good is not looked at. The error is
// [ErrApprover].
func ApproverOf(c *x509.Certificate) (*Approver, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve.Params().BitSize < 256 || len(c.URIs) != 1 {
		return nil, ErrApprover
	}
	u := c.URIs[0]
	a := &Approver{ID: u.String(), Key: key}
	parts := strings.Split(u.Path, "/")
	switch {
	case len(parts) == 4 && parts[1] == "merchants":
		a.Merchant, a.Name = parts[2], parts[3]
		ok = voidtoken.ValidName(a.Merchant)
	case len(parts) == 3 && parts[1] == "approvers":
		a.Name = parts[2]
	default:
		ok = false
	}
	// One spelling: what is escaped, or says more, is no SPIFFE ID.
	if !ok || !voidtoken.ValidSubject(a.Name) || !validDomain(u.Host) || a.ID != "spiffe://"+u.Host+u.Path || len(a.ID) > 2048 {
		return nil, ErrApprover
	}
	return a, nil
}

// validDomain is a trust domain as SPIFFE has it.
func validDomain(s string) bool {
	return len(s) >= 1 && len(s) <= 255 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}
