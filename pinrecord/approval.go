package pinrecord

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"

	"keyd/ceremony"
	"keyd/trust"
)

// Action is what is approved.
type Action string

// The actions.
const (
	Enrol   Action = "ENROL"   // a subject that has no PIN here gets one
	Reset   Action = "RESET"   // its PIN is dead at once; it sets another
	Unblock Action = "UNBLOCK" // it keeps its PIN and gets its tries back
)

// Limits of approvals.
const (
	MaxApproval     = 24 * time.Hour // until it is not good any more
	MaxDocument     = 4096           // bytes of an approval
	MaxSignature    = 256            // bytes
	MaxCertificates = 8 << 10        // bytes, of one approver together
	RequestSize     = 16             // bytes of a request's identifier
	CodeSize        = 8              // digits of the code that a subject is given
)

// Errors of approvals. Those of chains are package trust's.
var (
	ErrApproval  = errors.New("malformed approval")
	ErrSignature = errors.New("an approval's signature is not that of its certificate")
	ErrExpired   = errors.New("the approval is not good any more, or ends later than in 24 hours")
	ErrMerchant  = errors.New("the approver may not approve for this merchant")
	ErrTwo       = errors.New("two approvers with different names and different keys sign the same approval")
)

// Approval is what two approvers sign.
type Approval struct {
	Action  Action  `json:"action"`
	Subject Subject `json:"subject"`
	Version uint32  `json:"version"` // that the record will have; of UNBLOCK: that it has
	Request string  `json:"request"` // 32 lower-case hex digits, random

	// DeliverTo is the SubjectPublicKeyInfo in DER, on P-256, P-384 or P-521, of who hands the code
	// over to the subject. UNBLOCK has none.
	DeliverTo []byte `json:"deliver_to,omitempty"`
	NotAfter  int64  `json:"not_after"` // Unix seconds
}

// Validate checks what an approval itself shows. The error is [ErrApproval].
func (a *Approval) Validate() error {
	switch {
	case a.Action != Enrol && a.Action != Reset && a.Action != Unblock, a.Subject.Validate() != nil,
		a.Version == 0 || a.Version > MaxVersion, !lowerHex(a.Request, RequestSize), a.NotAfter <= 0:
		return ErrApproval
	case a.Action == Unblock && a.DeliverTo != nil:
		return ErrApproval
	case a.Action != Unblock:
		if _, err := a.Deliver(); err != nil {
			return err
		}
	}
	return nil
}

// Deliver returns the key to which the code is sealed. The error is [ErrApproval].
func (a *Approval) Deliver() (*ecdh.PublicKey, error) {
	key, err := ceremony.ParseKey(a.DeliverTo)
	if err != nil {
		return nil, ErrApproval
	}
	public, err := key.ECDH()
	if err != nil {
		return nil, ErrApproval
	}
	return public, nil
}

// Encode returns the one encoding of an approval. The error is [ErrApproval].
func (a *Approval) Encode() ([]byte, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return ceremony.Encode(a)
}

// ParseApproval accepts exactly what [Approval.Encode] returns. The error is [ErrApproval].
func ParseApproval(b []byte) (*Approval, error) {
	a, err := ceremony.Decode[Approval](b, MaxDocument)
	if err != nil || a.Validate() != nil {
		return nil, ErrApproval
	}
	return a, nil
}

// Signed is a document that an approver has signed, with the approver's certificates in DER, the
// approver's own first and no authority's last.
type Signed struct {
	Document     []byte   `json:"document"`
	Signature    []byte   `json:"signature"`
	Certificates [][]byte `json:"certificates"`
}

// Sign signs an encoded approval as one of two.
func Sign(signer crypto.Signer, certificates [][]byte, encoded []byte) (Signed, error) {
	if _, err := ParseApproval(encoded); err != nil {
		return Signed{}, err
	}
	signature, err := ceremony.Sign(signer, ceremony.OfPINApproval, encoded)
	return Signed{encoded, signature, certificates}, err
}

// Open checks an approval that one approver has signed. anchors are the authorities for approvers.
// Errors are [ErrApproval], [ErrApprover], [ErrSignature], [ErrExpired], [ErrMerchant], and those
// of package trust.
func (s *Signed) Open(anchors trust.Anchors, now time.Time) (*Approval, *Approver, error) {
	a, err := ParseApproval(s.Document)
	if err != nil {
		return nil, nil, err
	}
	by, err := s.approver(ceremony.OfPINApproval, anchors, now)
	if err != nil {
		return nil, nil, err
	}
	if !current(a.NotAfter, now) {
		return nil, nil, ErrExpired
	}
	if !by.MayApproveFor(a.Subject.Merchant) {
		return nil, nil, ErrMerchant
	}
	return a, by, nil
}

// OpenBoth checks an approval that two different approvers have signed, and returns its digest
// besides. Errors are those of [Signed.Open], and [ErrTwo].
func OpenBoth(signed []Signed, anchors trust.Anchors, now time.Time) (*Approval, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	if len(signed) != 2 || !bytes.Equal(signed[0].Document, signed[1].Document) {
		return nil, none, ErrTwo
	}
	approval, first, err := signed[0].Open(anchors, now)
	if err != nil {
		return nil, none, err
	}
	_, second, err := signed[1].Open(anchors, now)
	if err != nil {
		return nil, none, err
	}
	if first.Same(second) {
		return nil, none, ErrTwo
	}
	return approval, sha256.Sum256(signed[0].Document), nil
}

// approver checks the chain and the signature of who has signed.
func (s *Signed) approver(purpose ceremony.Purpose, anchors trust.Anchors, now time.Time) (*Approver, error) {
	size := 0
	for _, der := range s.Certificates {
		size += len(der)
	}
	if len(s.Certificates) == 0 || len(s.Certificates) > trust.MaxChain || size > MaxCertificates || len(s.Signature) > MaxSignature {
		return nil, ErrApproval
	}
	var chain []*x509.Certificate
	for _, der := range s.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, ErrApproval
		}
		chain = append(chain, c)
	}
	if err := anchors.Verify(chain, x509.KeyUsageDigitalSignature, nil, now); err != nil {
		return nil, err
	}
	by, err := ApproverOf(chain[0])
	if err != nil {
		return nil, err
	}
	if ceremony.Verify(by.Key, purpose, s.Document, s.Signature) != nil {
		return nil, ErrSignature
	}
	return by, nil
}

// current reports whether something ends after now, and in no more than 24 hours.
func current(notAfter int64, now time.Time) bool {
	return notAfter > now.Unix() && notAfter <= now.Add(MaxApproval).Unix()
}

func lowerHex(s string, size int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == size && hex.EncodeToString(b) == s
}
