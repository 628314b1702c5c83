package abuse

import (
	"errors"

	"github.com/miekg/pkcs11"
)

// fromAnotherSession uses a session object in a session that did not make it.
func fromAnotherSession(h *Hostile) error {
	o, value, err := h.victim(aesKey(pkcs11.CKA_ENCRYPT), 16)
	if err != nil {
		return err
	}
	other := *h
	if other.session, err = h.another(); err != nil {
		return err
	}
	return errors.Join(other.enciphersLike(o, value), h.ctx.CloseSession(other.session))
}

// afterItsSession uses a session object whose session is closed.
func afterItsSession(h *Hostile) error {
	other := *h
	var err error
	if other.session, err = h.another(); err != nil {
		return err
	}
	o, value, err := other.victim(aesKey(pkcs11.CKA_ENCRYPT), 16)
	if err = errors.Join(err, h.ctx.CloseSession(other.session)); err != nil {
		return err
	}
	return h.enciphersLike(o, value)
}

// afterLogout uses a private key when nobody is logged in any more.
func afterLogout(h *Hostile, kept bool) error {
	k := aesKey(pkcs11.CKA_ENCRYPT)
	if kept {
		k = k.with(keeps()...)
	}
	o, value, err := h.victim(k, 16)
	if err != nil {
		return err
	}
	return h.loggedOut(func() error { return h.enciphersLike(o, value) })
}

// operationAfterLogout ends an operation that was begun before.
func operationAfterLogout(h *Hostile) error {
	o, _, err := h.victim(aesKey(pkcs11.CKA_ENCRYPT), 16)
	if err != nil {
		return err
	}
	if err := h.ctx.EncryptInit(h.session, []*pkcs11.Mechanism{mechanism(pkcs11.CKM_AES_ECB)}, o); err != nil {
		return needed(refused("C_EncryptInit", err))
	}
	return h.loggedOut(func() error {
		_, err := h.ctx.Encrypt(h.session, make([]byte, 16))
		return refused("C_Encrypt", err)
	})
}

// foundAfterLogout looks for a private token object when nobody is logged in.
func foundAfterLogout(h *Hostile) error {
	if _, _, err := h.victim(aesKey().with(keeps()...), 16); err != nil {
		return err
	}
	return h.loggedOut(func() error {
		found, err := h.found()
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return instead("not found")
		}
		return nil
	})
}

// loggedOut runs f without a login, and logs in again.
func (h *Hostile) loggedOut(f func() error) error {
	if err := h.ctx.Logout(h.session); err != nil {
		return needed(refused("C_Logout", err))
	}
	got := f()
	if err := h.ctx.Login(h.session, pkcs11.CKU_USER, h.pin); err != nil {
		return needed(refused("C_Login", err))
	}
	return got
}
