package token

import (
	"errors"

	"github.com/miekg/pkcs11"
)

// InitToken initialises the first uninitialised token of the library under a label; one
// PIN serves both roles. One that has the label before it is initialised gets the PIN only:
// NSS has its labels from the parameters of [Load]. It is used for development tokens only;
// a production token is initialised with its maker's tools.
func (l *Library) InitToken(label, pin string) error {
	slots, err := l.ctx.GetSlotList(true)
	if err != nil {
		return named("C_GetSlotList", err)
	}
	for _, slot := range slots {
		info, err := l.ctx.GetTokenInfo(slot)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			continue
		}
		if trimmed(info.Label) != label {
			if err := l.ctx.InitToken(slot, pin, label); err != nil {
				return named("C_InitToken", err)
			}
		}
		return l.InitUserPIN(slot, pin)
	}
	return errors.New("the library offers no uninitialised token")
}

// InitUserPIN sets the user PIN of a token whose security-officer PIN is the same, or which has
// none yet (NSS softokn).
func (l *Library) InitUserPIN(slot uint, pin string) error {
	session, err := l.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return named("C_OpenSession", err)
	}
	defer func() { _ = l.ctx.CloseSession(session) }()
	err = l.ctx.Login(session, pkcs11.CKU_SO, pin)
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		err = l.ctx.Login(session, pkcs11.CKU_SO, "")
	}
	if err != nil {
		return named("C_Login", err)
	}
	if err := l.ctx.InitPIN(session, pin); err != nil {
		return named("C_InitPIN", err)
	}
	return named("C_Logout", l.ctx.Logout(session))
}
