package token

import (
	"errors"

	"github.com/miekg/pkcs11"
)

// HasMark reports whether the token carries a mark with that label.
func (s *Session) HasMark(label string) (bool, error) {
	for _, template := range [][]*pkcs11.Attribute{
		{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		},
		markHolder.template(label),
	} {
		if _, err := s.Find(template...); !errors.Is(err, ErrNoObject) {
			return err == nil, err
		}
	}
	return false, nil
}

// SetMark puts a mark with that label on the token: a public, unmodifiable data object, or
// where it keeps none a key that does nothing ([holder]).
func (s *Session) SetMark(label string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	if !s.token.keepsNoData.Load() {
		_, err := s.token.lib.ctx.CreateObject(s.handle, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
			pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, dataApplication),
		})
		if !errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)) {
			return named("C_CreateObject", err)
		}
		s.token.keepsNoData.Store(true)
	}
	_, err := s.putHolder(markHolder, label, nil)
	return err
}
