package pinsvc

import (
	"context"
	"errors"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
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
		r.Outgoing.named("outgoing"), keyuse.Named{Field: "generation_key_id", Name: r.GenerationKey})
	if err != nil {
		return GeneratedPIN{}, err
	}
	request := hsm.GeneratePIN{
		Outgoing:   r.Outgoing.with(key[0], serial),
		Generation: keyuse.Sealed(key[1]),
		PAN:        r.PAN,
		Length:     uint8(r.Length),
		Demands:    demands,
	}
	request.VisaPVV, request.IBM3624 = r.PINMethod.with()
	var uses keyuse.Serials
	uses.Add(key[0], serial, ksn.PINOutgoing)
	var answer hsm.GeneratedPIN
	if len(uses) == 0 {
		answer, err = s.modules.GeneratePIN(ctx, request)
	} else {
		answer, err = s.generateOnce(ctx, uses, request, key)
	}
	if err == nil {
		err = keyuse.Custody(entry, answer.Custody)
	}
	if err != nil {
		return GeneratedPIN{}, err
	}
	return GeneratedPIN{Block: answer.Block, Datum: r.withValue(answer.Datum), Custody: answer.Custody}, nil
}

// generateOnce is [keyuse.Keys.Once] for a generation. What is kept of its answer: custody,
// length of the value, value, block.
func (s *Service) generateOnce(ctx context.Context, uses keyuse.Serials, r hsm.GeneratePIN, key []keys.Key) (hsm.GeneratedPIN, error) {
	request := identify(keyuse.NewIdentity(ActionGenerate), key[0], r.Outgoing).Key(key[1])
	request = append(keyuse.AppendField(request, r.PAN), r.Length)
	request = identifyMethod(request, r.VisaPVV, r.IBM3624)
	kept, err := s.keys.Once(ctx, uses, request, func(refused bool) ([]byte, error) {
		r.KSNRefused = refused
		answer, err := s.modules.GeneratePIN(ctx, r)
		if err != nil {
			return nil, err
		}
		b := append(make([]byte, 0, 32), byte(answer.Custody), byte(len(answer.Datum)))
		return append(append(b, answer.Datum...), answer.Block...), nil
	})
	if err != nil {
		return hsm.GeneratedPIN{}, err
	}
	if len(kept) < 2 || len(kept) < 2+int(kept[1]) {
		return hsm.GeneratedPIN{}, fault.Wrap(fault.Internal, errors.New("the stored answer to a generation is not one"))
	}
	return hsm.GeneratedPIN{Custody: hsm.Custody(kept[0]), Datum: string(kept[2 : 2+kept[1]]), Block: kept[2+kept[1]:]}, nil
}

func (r GenerateRequest) record(entry *audit.Entry) {
	keyuse.Record(entry, r.Outgoing.KeyID, r.Outgoing.DUKPT)
	keyuse.Record(entry, r.GenerationKey, nil)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r GenerateRequest) check() (dukpt.KSN, error) {
	if err := r.Outgoing.check("outgoing"); err != nil {
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
