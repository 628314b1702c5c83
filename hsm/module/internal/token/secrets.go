package token

import (
	"fmt"

	"github.com/miekg/pkcs11"
)

// SecretInfo is what the token says of a secret key. It is the caller's to judge: the
// token may hold keys that keyd did not make.
type SecretInfo struct {
	KeyType uint   // CKK value
	Length  int    // in bytes
	ID      []byte // CKA_ID, which may be empty

	Private, Sensitive, Extractable, Modifiable          bool
	Encrypt, Decrypt, Sign, Verify, Derive, Wrap, Unwrap bool
	AlwaysSensitive, NeverExtractable, Local/* made here */ bool
}

// secretLengths are the key types that have one length, and no CKA_VALUE_LEN.
var secretLengths = map[uint]int{pkcs11.CKK_DES: 8, pkcs11.CKK_DES2: 16, pkcs11.CKK_DES3: 24}

// FindSecret returns the token's secret key with that label and its attributes. The error
// wraps [ErrNoObject] if there is none; several are an error too. Session objects are not
// found.
func (s *Session) FindSecret(label string) (Object, SecretInfo, error) {
	var info SecretInfo
	if err := checkLabel(label); err != nil {
		return 0, info, err
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	key, err := s.findSecret(label)
	if err != nil {
		return 0, info, err
	}
	if info, err = s.secretInfo(key); err != nil {
		return 0, SecretInfo{}, fmt.Errorf("secret key %q: %w", label, err)
	}
	return key, info, nil
}

func (s *Session) secretInfo(key Object) (info SecretInfo, err error) {
	if info.KeyType, err = s.number(key, pkcs11.CKA_KEY_TYPE); err != nil {
		return info, err
	}
	if length, ok := secretLengths[info.KeyType]; ok {
		info.Length = length
	} else {
		length, err := s.number(key, pkcs11.CKA_VALUE_LEN)
		if err != nil {
			return info, err
		}
		info.Length = int(length)
	}
	if info.ID, err = s.attribute(key, pkcs11.CKA_ID); err != nil {
		return info, err
	}
	for _, f := range []struct {
		kind uint
		flag *bool
	}{
		{pkcs11.CKA_PRIVATE, &info.Private},
		{pkcs11.CKA_SENSITIVE, &info.Sensitive},
		{pkcs11.CKA_EXTRACTABLE, &info.Extractable},
		{pkcs11.CKA_MODIFIABLE, &info.Modifiable},
		{pkcs11.CKA_ENCRYPT, &info.Encrypt},
		{pkcs11.CKA_DECRYPT, &info.Decrypt},
		{pkcs11.CKA_SIGN, &info.Sign},
		{pkcs11.CKA_VERIFY, &info.Verify},
		{pkcs11.CKA_DERIVE, &info.Derive},
		{pkcs11.CKA_WRAP, &info.Wrap},
		{pkcs11.CKA_UNWRAP, &info.Unwrap},
		{pkcs11.CKA_ALWAYS_SENSITIVE, &info.AlwaysSensitive},
		{pkcs11.CKA_NEVER_EXTRACTABLE, &info.NeverExtractable},
		{pkcs11.CKA_LOCAL, &info.Local},
	} {
		if *f.flag, err = s.flag(key, f.kind); err != nil {
			return info, err
		}
	}
	return info, nil
}

// findSecret finds the one secret key with that label, for a caller that holds the lock of
// token objects.
func (s *Session) findSecret(label string) (Object, error) {
	key, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	if err != nil {
		return 0, fmt.Errorf("secret key %q: %w", label, err)
	}
	return key, nil
}
