package hsm

import (
	"context"

	"keyd/hsm/internal/wire"
	"keyd/voidtoken"
)

// PIN records and approvals are those of package pinrecord, encoded and sealed. Here they are bytes:
// what is in them is between approvers, subjects and modules.

// Approval is a document that an approver has signed.
type Approval struct {
	Document, Signature []byte
	Certificates        [][]byte // DER, the approver's own first
}

// RecordBlock is a PIN block for a PIN record, or a code for one. The record's number stands in it
// where others have a PAN.
type RecordBlock struct {
	Key   PINKey // one that carries such PINs ([PINRecord])
	Block []byte // 8 or 16 bytes

	// Phone is the phone's point on P-256, 65 bytes, of a PIN that was typed on one (package pinrecord).
	// Key is a key pair (K3) then, and the format is 4.
	Phone []byte
}

// BeginPIN asks for a version of a PIN record, which the approvals name.
type BeginPIN struct {
	Approvals []Approval // two
	DatumKey  Key        // V0, AES
}

// BegunPIN is the answer to [BeginPIN]. All earlier versions are dead.
type BegunPIN struct {
	Pending []byte // sealed pinrecord.Pending
	Code    []byte // sealed to who hands it over
}

// BeginPIN has a module begin a version of a PIN record. It may be repeated: each time there is
// another code, of which each is good with its own pending record until one is used. Errors are
// refusals of package fault.
func (c *Client) BeginPIN(ctx context.Context, r BeginPIN) (BegunPIN, error) {
	var answer wire.PinBegun
	if err := c.call(ctx, 0, wire.OpBeginPIN, &wire.BeginPin{Approvals: approvals(r.Approvals), DatumKey: r.DatumKey.wire()}, &answer); err != nil {
		return BegunPIN{}, err
	}
	return BegunPIN{answer.Pending, answer.Code}, nil
}

// SetPIN asks for a subject's PIN to be set, who has been given the code.
type SetPIN struct {
	Pending  []byte
	DatumKey Key
	Code     RecordBlock // the code's 8 digits
	PIN      RecordBlock
	Demands
}

// SetRecord is the answer to [SetPIN] and [ChangeRecord].
type SetRecord struct {
	Verified bool   // the code, or the current PIN
	Record   []byte // sealed pinrecord.Record; nil unless verified
}

// SetPIN has a module set a PIN. A wrong code is no error. A PIN that is set may be set again by the
// same request, and not otherwise. Errors are refusals of package fault: [fault.PINWeak] and
// [fault.PINBlockInvalid] of the new PIN only where the code is right.
func (c *Client) SetPIN(ctx context.Context, r SetPIN) (SetRecord, error) {
	request := &wire.SetPin{Pending: r.Pending, DatumKey: r.DatumKey.wire(), Code: r.Code.wire(), Pin: r.PIN.wire(), Demands: r.Demands.wire()}
	var answer wire.PinSet
	if err := c.call(ctx, homeOf(&r.Code.Key, &r.PIN.Key), wire.OpSetPIN, request, &answer); err != nil {
		return SetRecord{}, err
	}
	return SetRecord{answer.Verified, answer.Record}, nil
}

// VerifyRecord asks whether a PIN is that of a record.
type VerifyRecord struct {
	Record   []byte
	DatumKey Key
	PIN      RecordBlock
	Demands
}

// VerifyRecord verifies the PIN of a record. A wrong PIN is no error. Errors are refusals of package
// fault: [fault.PINRecordEnded] for a record that is dead.
func (c *Client) VerifyRecord(ctx context.Context, r VerifyRecord) (verified bool, err error) {
	request := &wire.VerifyRecord{Record: r.Record, DatumKey: r.DatumKey.wire(), Pin: r.PIN.wire(), Demands: r.Demands.wire()}
	var answer wire.RecordVerified
	if err := c.call(ctx, homeOf(&r.PIN.Key), wire.OpVerifyRecord, request, &answer); err != nil {
		return false, err
	}
	return answer.Verified, nil
}

// ChangeRecord asks for another PIN in the place of one that is known. The record has the next
// version; the one before is dead.
type ChangeRecord struct {
	Record       []byte
	DatumKey     Key
	Current, New RecordBlock
	Demands
}

// ChangeRecord changes a PIN. A wrong current PIN is no error. The same change may be asked for
// again. Errors are as those of [Client.SetPIN].
func (c *Client) ChangeRecord(ctx context.Context, r ChangeRecord) (SetRecord, error) {
	request := &wire.ChangeRecord{Record: r.Record, DatumKey: r.DatumKey.wire(), Current: r.Current.wire(), New: r.New.wire(), Demands: r.Demands.wire()}
	var answer wire.RecordChanged
	if err := c.call(ctx, homeOf(&r.Current.Key, &r.New.Key), wire.OpChangeRecord, request, &answer); err != nil {
		return SetRecord{}, err
	}
	return SetRecord{answer.Verified, answer.Record}, nil
}

// RevokeRecord ends a record, or a pending one, for good: no module of this host goes by it any
// more. That uses up the next version: the subject's next record has the one after it. One that is
// dead stays so, without an error.
func (c *Client) RevokeRecord(ctx context.Context, record []byte) error {
	return c.call(ctx, 0, wire.OpRevokeRecord, &wire.RevokeRecord{Record: record}, &wire.RecordRevoked{})
}

// UnblockRecord resets the tries that modules have counted for a record's subject. Two approvals of
// UNBLOCK are used up by it, whatever comes of it: once more they are [fault.RequestReplayed].
func (c *Client) UnblockRecord(ctx context.Context, record []byte, two []Approval) error {
	return c.call(ctx, 0, wire.OpUnblockRecord, &wire.UnblockRecord{Record: record, Approvals: approvals(two)}, &wire.RecordUnblocked{})
}

// ResealRecord seals a record anew under the present master keys; nothing else about it changes. It
// is done for all records before older master keys are retired.
func (c *Client) ResealRecord(ctx context.Context, record []byte) ([]byte, error) {
	var answer wire.RecordResealed
	err := c.call(ctx, 0, wire.OpResealRecord, &wire.ResealRecord{Record: record}, &answer)
	return answer.Record, err
}

// VoidPIN is a PIN that a void is authorised with. Exactly one of Record and Cardholder is set.
type VoidPIN struct {
	Key   PINKey
	Block []byte // 8 or 16 bytes

	// MACKey and MAC are the terminal's, over pinrecord.Bound. Under a BDK the MAC has the key serial
	// number of the PIN block; any other is one of the terminal's session keys. A MAC has 8 bytes or
	// more. From a phone comes none: the block's own key is bound to the void.
	MACKey MACKey
	MAC    []byte

	Phone []byte // as in [RecordBlock]

	Record     *RecordPIN
	Cardholder *CardholderPIN
}

// RecordPIN says that a PIN is that of a record.
type RecordPIN struct {
	Record   []byte
	DatumKey Key
}

// CardholderPIN says that a PIN is that of an account. Exactly one of VisaPVV and IBM3624 is set.
type CardholderPIN struct {
	Verification Key
	PAN          string // 1 to 19 decimal digits
	VisaPVV      *VisaPVV
	IBM3624      *IBM3624
}

// AuthorizeVoid asks for a void to be authorised by PINs: those of a supervisor, a cardholder, or
// both.
type AuthorizeVoid struct {
	Fields    voidtoken.Fields
	ExpiresAt int64 // Unix seconds, at most [voidtoken.MaxLife] from now
	PINs      []VoidPIN
	TokenKey  Key // key pair (S0) on P-256 or P-384
	Demands
}

// AuthorizedVoid is the answer to [AuthorizeVoid].
type AuthorizedVoid struct {
	Verified bool   // every PIN and every MAC
	Token    string // of package voidtoken; empty unless verified
}

// AuthorizeVoid verifies all PINs and MACs and signs a void token, in one operation: a PIN that was
// verified is worth nothing for another void. What is wrong is not said, and no error. Errors are
// refusals of package fault.
func (c *Client) AuthorizeVoid(ctx context.Context, r AuthorizeVoid) (AuthorizedVoid, error) {
	request := &wire.AuthorizeVoid{Fields: voidFields(&r.Fields), ExpiresAt: r.ExpiresAt, TokenKey: r.TokenKey.wire(), Demands: r.Demands.wire()}
	var keys []*PINKey
	for i := range r.PINs {
		keys = append(keys, &r.PINs[i].Key)
		request.Pins = append(request.Pins, r.PINs[i].wire())
	}
	var answer wire.VoidAuthorized
	if err := c.call(ctx, homeOf(keys...), wire.OpAuthorizeVoid, request, &answer); err != nil {
		return AuthorizedVoid{}, err
	}
	return AuthorizedVoid{answer.Verified, answer.Token}, nil
}

// ApproveVoid asks for a void token on the word of an approver elsewhere (pinrecord.SignVoid).
type ApproveVoid struct {
	Fields    voidtoken.Fields
	ExpiresAt int64
	Approval  Approval
	TokenKey  Key
}

// ApproveVoid signs a void token that an approver has approved. Errors are refusals of package fault.
func (c *Client) ApproveVoid(ctx context.Context, r ApproveVoid) (token string, err error) {
	request := &wire.ApproveVoid{Fields: voidFields(&r.Fields), ExpiresAt: r.ExpiresAt, Approval: r.Approval.wire(), TokenKey: r.TokenKey.wire()}
	var answer wire.VoidApproved
	err = c.call(ctx, 0, wire.OpApproveVoid, request, &answer)
	return answer.Token, err
}

// SignCode is a live code of package voids/code that is to be signed. It authorises nothing.
type SignCode struct {
	Identifier [16]byte
	ExpiresAt  int64 // Unix seconds, at most 15 minutes from now
	Audience   [8]byte
	Key        Key // key pair (S0) on P-256
}

// SignCode signs a code, in ASN.1 DER. Errors are refusals of package fault.
func (c *Client) SignCode(ctx context.Context, r SignCode) (signature []byte, err error) {
	request := &wire.SignCode{Identifier: r.Identifier[:], ExpiresAt: r.ExpiresAt, Audience: r.Audience[:], Key: r.Key.wire()}
	var answer wire.CodeSigned
	err = c.call(ctx, 0, wire.OpSignCode, request, &answer)
	return answer.Signature, err
}

func (a *Approval) wire() *wire.Approval {
	return &wire.Approval{Document: a.Document, Signature: a.Signature, Certificates: a.Certificates}
}

func approvals(list []Approval) (m []*wire.Approval) {
	for i := range list {
		m = append(m, list[i].wire())
	}
	return m
}

func (b *RecordBlock) wire() *wire.RecordBlock {
	return &wire.RecordBlock{Key: new(pinKeyMessage).fill(&b.Key), Block: b.Block, Phone: b.Phone}
}

func voidFields(f *voidtoken.Fields) *wire.VoidFields {
	return &wire.VoidFields{Void: f.Void, Merchant: f.Merchant, Terminal: f.Terminal, Reference: f.Reference, Amount: f.Amount, Currency: uint32(f.Currency)}
}

func (p *VoidPIN) wire() *wire.VoidPin {
	m := &wire.VoidPin{Incoming: new(pinKeyMessage).fill(&p.Key), Block: p.Block, Phone: p.Phone}
	if p.Phone == nil || p.MAC != nil {
		m.MacKey, m.Mac = p.MACKey.wire(), p.MAC
	}
	if r := p.Record; r != nil {
		m.Whose = &wire.VoidPin_Record{Record: &wire.RecordPin{Record: r.Record, DatumKey: r.DatumKey.wire()}}
	}
	if h := p.Cardholder; h != nil {
		of := &wire.CardholderPin{Verification: h.Verification.wire(), Pan: h.PAN}
		switch {
		case h.VisaPVV != nil:
			of.Expected = &wire.CardholderPin_VisaPvv{VisaPvv: h.VisaPVV.wire()}
		case h.IBM3624 != nil:
			of.Expected = &wire.CardholderPin_Ibm3624{Ibm3624: h.IBM3624.wire()}
		}
		m.Whose = &wire.VoidPin_Cardholder{Cardholder: of}
	}
	return m
}
