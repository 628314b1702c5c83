package pinsvc

import (
	"context"

	"keyd/audit"
	"keyd/hsm"
	"keyd/keyuse"
)

// ResetVerifications lets the PIN of an account be verified again under one key, after
// somebody at the machine has permitted it: else [fault.PermitMissing].
func (s *Service) ResetVerifications(ctx context.Context, verificationKey, pan string) error {
	entry := s.keys.Entry(ctx)
	keyuse.Record(entry, verificationKey, nil)
	entry.PAN = audit.MaskPAN(pan)
	if err := keyuse.CheckKeyID("verification_key_id", verificationKey); err != nil {
		return err
	}
	if err := checkPAN(pan, true); err != nil {
		return err
	}
	key, _, err := s.keys.Authorized(ctx, ActionResetVerifications, entry, keyuse.Named{Field: "verification_key_id", Name: verificationKey})
	if err != nil {
		return err
	}
	k := keyuse.Sealed(key[0])
	return s.modules.ResetTries(ctx, hsm.ResetTries{Verification: &k, PAN: pan})
}

// ResetTranslations lets PIN blocks of an account be translated again, under the same
// condition.
func (s *Service) ResetTranslations(ctx context.Context, pan string) error {
	s.keys.Entry(ctx).PAN = audit.MaskPAN(pan)
	if err := checkPAN(pan, true); err != nil {
		return err
	}
	if err := s.keys.Authorize(ctx, ActionResetTranslations); err != nil {
		return err
	}
	return s.modules.ResetTries(ctx, hsm.ResetTries{PAN: pan})
}
