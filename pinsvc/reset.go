package pinsvc

import (
	"context"

	"keyd/audit"
	"keyd/hsm"
)

// ResetVerifications lets the PIN of an account be verified again under one key, after
// somebody at the machine has permitted it: else [fault.PermitMissing].
func (s *Service) ResetVerifications(ctx context.Context, verificationKey, pan string) error {
	entry := s.access.Entry(ctx)
	recordKey(entry, verificationKey)
	entry.PAN = audit.MaskPAN(pan)
	if err := checkKeyID("verification_key_id", verificationKey); err != nil {
		return err
	}
	if err := checkPAN(pan, true); err != nil {
		return err
	}
	key, err := s.authorized(ctx, ActionResetVerifications, entry, named{"verification_key_id", verificationKey})
	if err != nil {
		return err
	}
	k := sealed(key[0])
	return s.modules.ResetTries(ctx, hsm.ResetTries{Verification: &k, PAN: pan})
}

// ResetTranslations lets PIN blocks of an account be translated again, under the same
// condition.
func (s *Service) ResetTranslations(ctx context.Context, pan string) error {
	s.access.Entry(ctx).PAN = audit.MaskPAN(pan)
	if err := checkPAN(pan, true); err != nil {
		return err
	}
	if err := s.access.Authorize(ctx, ActionResetTranslations, nil); err != nil {
		return err
	}
	return s.modules.ResetTries(ctx, hsm.ResetTries{PAN: pan})
}
