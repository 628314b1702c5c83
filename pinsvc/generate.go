package pinsvc

import (
	"context"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/ksn"
)

// GenerateRequest asks for a random PIN.
type GenerateRequest struct {
	Outgoing      PINKey
	GenerationKey string // V2 for a Visa PVV, V1 for an IBM 3624 offset
	PAN           string // 1 to 19 digits
	Length        int32  // of the PIN, 4 to 12 digits
	PINMethod            // without a value
}

// GeneratedPIN is the answer to [GenerateRequest].
type GeneratedPIN struct {
	Block   []byte
	Datum   PINMethod // with the value
	Custody hsm.Custody
}

// Generate makes a random PIN inside the boundary, of which every digit is as likely as any
// other. Its block and the value to verify it by come back, and nothing is kept. Errors are
// refusals of package fault in the order that the package comment gives, or ctx's error.
func (s *Service) Generate(ctx context.Context, r GenerateRequest) (GeneratedPIN, error) {
	entry := s.keys.Entry(ctx)
	r.record(entry)
	serial, err := r.check()
	if err != nil {
		return GeneratedPIN{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionGenerate, entry,
		r.Outgoing.Named("outgoing"), keyuse.Named{Field: "generation_key_id", Name: r.GenerationKey})
	if err != nil {
		return GeneratedPIN{}, err
	}
	request := hsm.GeneratePIN{
		Outgoing:   r.Outgoing.With(key[0], serial),
		Generation: keyuse.Sealed(key[1]),
		PAN:        r.PAN,
		Length:     uint8(r.Length),
		Demands:    demands,
	}
	request.VisaPVV, request.IBM3624 = r.PINMethod.with()
	var uses keyuse.Serials
	uses.Add(key[0], serial, ksn.PINOutgoing)
	id := func() keyuse.Identity {
		id := Identify(keyuse.NewIdentity(ActionGenerate), key[0], request.Outgoing).Key(key[1])
		id = append(keyuse.AppendField(id, r.PAN), request.Length)
		return identifyMethod(id, request.VisaPVV, request.IBM3624)
	}
	answer, err := keyuse.Kept(ctx, s.keys, uses, id, keptGeneration, func(refused bool) (hsm.GeneratedPIN, error) {
		request.KSNRefused = refused
		return s.modules.GeneratePIN(ctx, request)
	})
	answer, err = keyuse.Answered(entry, answer, answer.Custody, err)
	if err != nil {
		return GeneratedPIN{}, err
	}
	return GeneratedPIN{Block: answer.Block, Datum: r.withValue(answer.Datum), Custody: answer.Custody}, nil
}

func (r GenerateRequest) record(entry *audit.Entry) {
	keyuse.Record(entry, r.Outgoing.KeyID, r.Outgoing.DUKPT)
	keyuse.Record(entry, r.GenerationKey, nil)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r GenerateRequest) check() (dukpt.KSN, error) {
	if err := r.Outgoing.Check("outgoing"); err != nil {
		return dukpt.KSN{}, err
	}
	if err := keyuse.CheckKeyID("generation_key_id", r.GenerationKey); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkPAN(r.PAN, true); err != nil {
		return dukpt.KSN{}, err
	}
	if r.Length < 4 || r.Length > 12 {
		return dukpt.KSN{}, keyuse.Invalid("pin_length is 4 to 12")
	}
	if err := r.checkNoValue("method"); err != nil {
		return dukpt.KSN{}, err
	}
	return r.Outgoing.DUKPT.Serial("outgoing")
}
