package module

import (
	"google.golang.org/protobuf/proto"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
)

// PIN records and voids: answers, of which none has a PIN or a code in clear. What is asked is in
// recordshapes.go. Nothing of it is believed: package pinrecords decides.

func pinBegun(b hsm.BegunPIN) proto.Message {
	return &wire.PinBegun{Pending: b.Pending, Code: b.Code}
}

func pinSet(a hsm.SetRecord) proto.Message {
	return &wire.PinSet{Verified: a.Verified, Record: a.Record}
}

func recordVerified(verified bool) proto.Message { return &wire.RecordVerified{Verified: verified} }

func recordChanged(a hsm.SetRecord) proto.Message {
	return &wire.RecordChanged{Verified: a.Verified, Record: a.Record}
}

func (s *server) revokeRecord(record []byte) (struct{}, error) {
	return struct{}{}, s.engines.records.Revoke(record)
}

func recordRevoked(struct{}) proto.Message { return &wire.RecordRevoked{} }

func (s *server) unblockRecord(u unblocking) (struct{}, error) {
	return struct{}{}, s.engines.records.Unblock(u.record, u.approvals)
}

func recordUnblocked(struct{}) proto.Message { return &wire.RecordUnblocked{} }

func recordResealed(record []byte) proto.Message { return &wire.RecordResealed{Record: record} }

func voidAuthorized(a hsm.AuthorizedVoid) proto.Message {
	return &wire.VoidAuthorized{Verified: a.Verified, Token: a.Token}
}

func voidApproved(token string) proto.Message { return &wire.VoidApproved{Token: token} }

func codeSigned(signature []byte) proto.Message { return &wire.CodeSigned{Signature: signature} }
