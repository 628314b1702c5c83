package module

import (
	"google.golang.org/protobuf/proto"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/cardops"
	"keyd/hsm/module/internal/checkpoints"
	"keyd/hsm/module/internal/dataops"
	"keyd/hsm/module/internal/injection"
	"keyd/hsm/module/internal/macops"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/pinrecords"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/working"
)

// engines carry out the operations.
type engines struct {
	keys  *working.Keys
	tries *tries.Tries
	pins  *pinops.Engine
	macs  *macops.Engine
	data  *dataops.Engine
	cards *cardops.Engine

	officers *quorum.Engine
	register *register.Register

	checkpoints *checkpoints.Memory
	injection   *injection.Engine
	records     *pinrecords.Engine
}

func newEngines(keys *working.Keys, counting *tries.Tries, officers *quorum.Engine, r *register.Register, signed *checkpoints.Memory, injecting *injection.Engine, records *pinrecords.Engine) engines {
	return engines{
		keys: keys, tries: counting, officers: officers, register: r, checkpoints: signed, injection: injecting, records: records,
		pins: pinops.NewEngine(keys, counting), macs: macops.NewEngine(keys),
		data: dataops.NewEngine(keys), cards: cardops.NewEngine(keys, counting),
	}
}

// operation is a request that has been decoded: a PIN operation, which is carried out
// together with others, or another one.
type operation struct {
	pin   *pinops.Operation
	other func() (proto.Message, error)
}

// otherWork is what an operation counts for in a batch that is no PIN operation, or one that
// takes token calls of its own ([pinops.Engine.Alone]): together they are no faster, others
// would wait, and on a token that is far a full batch of them would take so long that this process counts as hanging.
const otherWork = 8

// begin decodes a request, or answers it where it cannot be decoded, and returns for how
// many operations it counts.
func (s *server) begin(j *job) (work int) {
	j.operation, j.err = s.interpret(j.frame)
	switch {
	case j.err != nil:
		return 1
	case j.pin == nil || s.engines.pins.Alone(j.pin):
		return otherWork
	}
	return j.pin.Lanes()
}

// interpret is the whole interface of the boundary. There is no operation that returns a
// clear PIN, a clear PIN block or a clear key.
func (s *server) interpret(f wire.Frame) (operation, error) {
	switch f.Op {
	case wire.OpTranslatePIN:
		return pin(f, new(wire.TranslatePin), translatePIN, func(r *hsm.TranslatePIN) *pinops.Operation { return &pinops.Operation{Translate: r} })
	case wire.OpVerifyPIN:
		return pin(f, new(wire.VerifyPin), verifyPIN, func(r *hsm.VerifyPIN) *pinops.Operation { return &pinops.Operation{Verify: r} })
	case wire.OpGeneratePIN:
		return pin(f, new(wire.GeneratePin), generatePIN, func(r *hsm.GeneratePIN) *pinops.Operation { return &pinops.Operation{Generate: r} })
	case wire.OpChangePIN:
		return pin(f, new(wire.ChangePin), changePIN, func(r *hsm.ChangePIN) *pinops.Operation { return &pinops.Operation{Change: r} })
	case wire.OpGenerateMAC:
		return other(f, new(wire.GenerateMac), generateMAC, s.engines.macs.Generate, generatedMAC)
	case wire.OpVerifyMAC:
		return other(f, new(wire.VerifyMac), verifyMAC, s.engines.macs.Verify, verifiedMAC)
	case wire.OpEncryptData:
		return other(f, new(wire.EncryptData), encryptData, s.engines.data.Encrypt, encryptedData)
	case wire.OpDecryptData:
		return other(f, new(wire.DecryptData), decryptData, s.engines.data.Decrypt, decryptedData)
	case wire.OpReEncrypt:
		return other(f, new(wire.ReEncryptData), reEncryptData, s.engines.data.ReEncrypt, encryptedData)
	case wire.OpGenerateCVV:
		return other(f, new(wire.GenerateCvv), generateCVV, s.engines.cards.Generate, generatedCVV)
	case wire.OpVerifyCVV:
		return other(f, new(wire.VerifyCvv), verifyCVV, s.engines.cards.Verify, verifiedCVV)
	case wire.OpResetTries:
		return other(f, new(wire.ResetTries), resetTries, s.resetTries, triesReset)
	case wire.OpLoadEpoch:
		return other(f, new(wire.LoadEpoch), loadEpoch, s.loadEpoch, epochLoaded)
	case wire.OpCommitEpoch:
		return other(f, new(wire.CommitEpoch), commitEpoch, s.commitEpoch, epochCommitted)
	case wire.OpFollowEpoch:
		return other(f, new(wire.FollowEpoch), followEpoch, s.followEpoch, epochFollowed)
	case wire.OpFirstEpoch:
		return other(f, new(wire.FirstEpoch), nothing[*wire.FirstEpoch], s.firstEpoch, epochDocument)
	case wire.OpGetIdentity:
		return other(f, new(wire.GetIdentity), nothing[*wire.GetIdentity], s.identity, identityDocument)
	case wire.OpBeginCeremony:
		return other(f, new(wire.BeginCeremony), beginCeremony, s.beginCeremony, ceremonyOpened)
	case wire.OpCheckCeremony:
		return other(f, new(wire.CheckCeremony), checkCeremony, s.checkCeremony, ceremonyChecked)
	case wire.OpCarryOut:
		return other(f, new(wire.CarryOutCeremony), carryOutCeremony, s.carryOut, carriedOut)
	case wire.OpAbortCeremony:
		return other(f, new(wire.AbortCeremony), abortCeremony, s.abortCeremony, epochDocument)
	case wire.OpReseal:
		return other(f, new(wire.Reseal), resealKey, s.reseal, resealed)
	case wire.OpCertificate:
		return other(f, new(wire.CertificateRequest), certificateRequest, s.certificateRequest, certificateRequested)
	case wire.OpLastCheckpoint:
		return other(f, new(wire.LastCheckpoint), lastCheckpoint, s.lastCheckpoint, checkpointKept)
	case wire.OpSignCheckpoint:
		return other(f, new(wire.SignCheckpoint), signCheckpoint, s.signCheckpoint, checkpointSigned)
	case wire.OpInjectByAgreement:
		return other(f, new(wire.InjectByAgreement), injectByAgreement, s.injectByAgreement, injected)
	case wire.OpInjectByToken:
		return other(f, new(wire.InjectByToken), injectByToken, s.injectByToken, injected)
	case wire.OpConfirmInjection:
		return other(f, new(wire.ConfirmInjection), confirmInjection, s.confirmInjection, injectionConfirmed)
	case wire.OpMakeSessionKeys:
		return other(f, new(wire.MakeSessionKeys), makeSessionKeys, s.makeSessionKeys, sessionKeysMade)
	case wire.OpMakeBindingToken:
		return other(f, new(wire.MakeBindingToken), makeBindingToken, s.makeBindingToken, bindingTokenMade)
	case wire.OpBeginPIN:
		return other(f, new(wire.BeginPin), beginPIN, s.engines.records.Begin, pinBegun)
	case wire.OpSetPIN:
		return other(f, new(wire.SetPin), setPIN, s.engines.records.Set, pinSet)
	case wire.OpVerifyRecord:
		return other(f, new(wire.VerifyRecord), verifyRecord, s.engines.records.Verify, recordVerified)
	case wire.OpChangeRecord:
		return other(f, new(wire.ChangeRecord), changeRecord, s.engines.records.Change, recordChanged)
	case wire.OpRevokeRecord:
		return other(f, new(wire.RevokeRecord), revokeRecord, s.revokeRecord, recordRevoked)
	case wire.OpUnblockRecord:
		return other(f, new(wire.UnblockRecord), unblockRecord, s.unblockRecord, recordUnblocked)
	case wire.OpResealRecord:
		return other(f, new(wire.ResealRecord), resealRecord, s.engines.records.Reseal, recordResealed)
	case wire.OpAuthorizeVoid:
		return other(f, new(wire.AuthorizeVoid), authorizeVoid, s.engines.records.Authorize, voidAuthorized)
	case wire.OpApproveVoid:
		return other(f, new(wire.ApproveVoid), approveVoid, s.engines.records.Approve, voidApproved)
	case wire.OpSignCode:
		return other(f, new(wire.SignCode), signCode, s.engines.records.SignCode, codeSigned)
	case wire.OpSetPasskey:
		return other(f, new(wire.SetPasskey), setPasskey, s.engines.records.SetPasskey, passkeySet)
	case wire.OpAuthorizeByPasskey:
		return other(f, new(wire.AuthorizeByPasskey), authorizeByPasskey, s.engines.records.AuthorizeByPasskey, voidAuthorized)
	case wire.OpSignPageKey:
		return other(f, new(wire.SignPageKey), signPageKey, s.engines.records.SignPageKey, pageKeySigned)
	case wire.OpSealBackup:
		return other(f, new(wire.SealBackup), sealBackup, s.sealBackup, backupSealed)
	case wire.OpDescribe:
		return operation{other: func() (proto.Message, error) { return s.describe(), nil }}, nil
	}
	return operation{}, malformed
}

// pin decodes a PIN operation.
func pin[M proto.Message, R any](f wire.Frame, m M, shape func(M) (R, error), begin func(*R) *pinops.Operation) (operation, error) {
	if err := f.Decode(m); err != nil {
		return operation{}, malformed
	}
	request, err := shape(m)
	if err != nil {
		return operation{}, err
	}
	return operation{pin: begin(&request)}, nil
}

// other decodes any other operation, and says how it is carried out and answered.
func other[M proto.Message, R, A any](f wire.Frame, m M, shape func(M) (R, error), carryOut func(R) (A, error), answer func(A) proto.Message) (operation, error) {
	if err := f.Decode(m); err != nil {
		return operation{}, malformed
	}
	request, err := shape(m)
	if err != nil {
		return operation{}, err
	}
	return operation{other: func() (proto.Message, error) {
		a, err := carryOut(request)
		if err != nil {
			return nil, err
		}
		return answer(a), nil
	}}, nil
}
