package module

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/pinrecords"
	"keyd/pinrecord"
)

// recordMessages are well-formed requests of each operation on PIN records and voids.
func recordMessages() map[wire.Op]proto.Message {
	key := &wire.SealedKey{Name: "k", Sealed: make([]byte, 40)}
	block := &wire.RecordBlock{Key: &wire.PinKey{Key: key}, Block: make([]byte, 8)}
	approval := &wire.Approval{Document: []byte("{}"), Signature: make([]byte, 64), Certificates: [][]byte{{0x30}}}
	fields := &wire.VoidFields{Void: strings.Repeat("0a", 16), Merchant: "m", Terminal: "t", Reference: "r", Amount: 1, Currency: 156}
	mac := &wire.MacKey{Key: key, Algorithm: 3, Padding: 1}
	record := make([]byte, 300)
	return map[wire.Op]proto.Message{
		wire.OpBeginPIN:      &wire.BeginPin{DatumKey: key, Approvals: []*wire.Approval{approval, approval}},
		wire.OpSetPIN:        &wire.SetPin{Pending: record, DatumKey: key, Code: block, Pin: block},
		wire.OpVerifyRecord:  &wire.VerifyRecord{Record: record, DatumKey: key, Pin: block},
		wire.OpChangeRecord:  &wire.ChangeRecord{Record: record, DatumKey: key, Current: block, New: block},
		wire.OpRevokeRecord:  &wire.RevokeRecord{Record: record},
		wire.OpUnblockRecord: &wire.UnblockRecord{Record: record, Approvals: []*wire.Approval{approval, approval}},
		wire.OpResealRecord:  &wire.ResealRecord{Record: record},
		wire.OpAuthorizeVoid: &wire.AuthorizeVoid{Fields: fields, TokenKey: key, Pins: []*wire.VoidPin{
			{Incoming: block.Key, Block: block.Block, MacKey: mac, Mac: make([]byte, 8), Whose: &wire.VoidPin_Record{Record: &wire.RecordPin{Record: record, DatumKey: key}}},
			{Incoming: block.Key, Block: block.Block, MacKey: mac, Mac: make([]byte, 8), Whose: &wire.VoidPin_Cardholder{Cardholder: &wire.CardholderPin{
				Verification: key, Pan: "4012345678909", Expected: &wire.CardholderPin_Ibm3624{Ibm3624: &wire.Ibm3624{Offset: "1234"}},
			}}},
		}},
		wire.OpApproveVoid: &wire.ApproveVoid{Fields: fields, TokenKey: key, Approval: approval},
		wire.OpSignCode:    &wire.SignCode{Identifier: make([]byte, 16), Audience: make([]byte, 8), Key: key},
	}
}

// FuzzRecordShapes reads any bytes as an operation on PIN records or voids: it is refused as
// malformed, or is of the sizes that the engine works with.
func FuzzRecordShapes(f *testing.F) {
	s := &server{}
	for op, m := range recordMessages() {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := s.interpret(wire.Frame{Op: op, Payload: b}); err != nil {
			f.Fatalf("operation %d: %v", op, err)
		}
		f.Add(uint8(op), b)
	}
	f.Fuzz(func(t *testing.T, op uint8, payload []byte) {
		frame := wire.Frame{Op: wire.OpBeginPIN + wire.Op(op)%10, Payload: payload}
		if o, err := s.interpret(frame); err != nil {
			if reason := fault.Of(err).Reason; reason != fault.RequestInvalid && reason != fault.KSNInvalid {
				t.Error(err)
			}
		} else if o.other == nil {
			t.Error("no operation")
		}
		sized := func(ok bool) {
			if !ok {
				t.Errorf("operation %d is of a size that is none", frame.Op)
			}
		}
		record := func(b []byte) { sized(len(b) > pinrecord.MACSize && len(b) <= pinrecord.MaxRecord+pinrecord.MACSize) }
		block := func(k hsm.PINKey, b []byte) {
			sized(len(b) == k.Format.BlockSize() && len(k.Key.Sealed) <= hsm.MaxSealedSize)
		}
		approval := func(a hsm.Approval) { sized(len(a.Document) <= pinrecord.MaxDocument && len(a.Certificates) > 0) }
		switch frame.Op {
		case wire.OpBeginPIN:
			if m := new(wire.BeginPin); frame.Decode(m) == nil {
				if r, err := beginPIN(m); err == nil {
					sized(len(r.Approvals) == 2)
				}
			}
		case wire.OpSetPIN:
			if m := new(wire.SetPin); frame.Decode(m) == nil {
				if r, err := setPIN(m); err == nil {
					record(r.Pending)
					block(r.Code.Key, r.Code.Block)
					block(r.PIN.Key, r.PIN.Block)
				}
			}
		case wire.OpVerifyRecord:
			if m := new(wire.VerifyRecord); frame.Decode(m) == nil {
				if r, err := verifyRecord(m); err == nil {
					record(r.Record)
					block(r.PIN.Key, r.PIN.Block)
				}
			}
		case wire.OpChangeRecord:
			if m := new(wire.ChangeRecord); frame.Decode(m) == nil {
				if r, err := changeRecord(m); err == nil {
					record(r.Record)
					block(r.Current.Key, r.Current.Block)
					block(r.New.Key, r.New.Block)
				}
			}
		case wire.OpUnblockRecord:
			if m := new(wire.UnblockRecord); frame.Decode(m) == nil {
				if u, err := unblockRecord(m); err == nil {
					record(u.record)
					sized(len(u.approvals) == 2)
				}
			}
		case wire.OpAuthorizeVoid:
			if m := new(wire.AuthorizeVoid); frame.Decode(m) == nil {
				if r, err := authorizeVoid(m); err == nil {
					sized(r.Fields.Validate() == nil && len(r.PINs) > 0 && len(r.PINs) <= pinrecords.MaxPINs)
					for _, p := range r.PINs {
						block(p.Key, p.Block)
						sized((p.Record == nil) != (p.Cardholder == nil) && len(p.MAC) <= 32)
					}
				}
			}
		case wire.OpApproveVoid:
			if m := new(wire.ApproveVoid); frame.Decode(m) == nil {
				if r, err := approveVoid(m); err == nil {
					sized(r.Fields.Validate() == nil)
					approval(r.Approval)
				}
			}
		}
	})
}
