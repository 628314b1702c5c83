package pinrecord

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"keyd/ceremony"
	"keyd/trust"
	"keyd/voidtoken"
)

// VoidApproval is what a remote approver signs about one void, for the purpose "keyd void approval 1".
type VoidApproval struct {
	Digest   string `json:"digest"`    // of the void ([voidtoken.Fields.Digest]), 64 lower-case hex digits
	NotAfter int64  `json:"not_after"` // Unix seconds
}

// SignVoid signs a void as its approver.
func SignVoid(signer crypto.Signer, certificates [][]byte, digest [sha256.Size]byte, notAfter int64) (Signed, error) {
	encoded, err := ceremony.Encode(&VoidApproval{hex.EncodeToString(digest[:]), notAfter})
	if err != nil {
		return Signed{}, err
	}
	signature, err := ceremony.Sign(signer, ceremony.OfVoidApproval, encoded)
	return Signed{encoded, signature, certificates}, err
}

// OpenVoid checks that an approver of the merchant, or of any, has approved this void. Errors are
// those of [Signed.Open]; [ErrApproval] where it is about another void.
func (s *Signed) OpenVoid(fields *voidtoken.Fields, anchors trust.Anchors, now time.Time) (*Approver, error) {
	a, err := ceremony.Decode[VoidApproval](s.Document, MaxDocument)
	if err != nil || !lowerHex(a.Digest, sha256.Size) {
		return nil, ErrApproval
	}
	digest, err := fields.Digest()
	if err != nil || hex.EncodeToString(digest[:]) != a.Digest {
		return nil, ErrApproval
	}
	by, err := s.approver(ceremony.OfVoidApproval, anchors, now)
	if err != nil {
		return nil, err
	}
	if !current(a.NotAfter, now) {
		return nil, ErrExpired
	}
	if !by.MayApproveFor(fields.Merchant) {
		return nil, ErrMerchant
	}
	return by, nil
}

// MACPrefix begins what a terminal makes its MAC of a void over with keys that are not DUKPT's. No
// module makes a MAC over anything that begins so: with a session key it makes MACs as well, and a
// front could have one made for a block that was typed for something else.
const MACPrefix = "keyd void mac 1\x00"

// Bound returns what a terminal makes its MAC over that binds a PIN block to a void. Under DUKPT
// the block and the MAC have one key serial number, the BDK is good for requests from terminals
// only, and the void's digest is enough. Under any other keys, whose MAC is a CMAC, it is
// [MACPrefix], the digest, and the enciphered block: else a block that was typed for one void could
// be shown with the MAC of another.
func Bound(digest [sha256.Size]byte, block []byte, dukpt bool) []byte {
	if dukpt {
		return digest[:]
	}
	return append(append([]byte(MACPrefix), digest[:]...), block...)
}
