package abuse

import (
	"fmt"

	"github.com/miekg/pkcs11"
)

// useWithout does with a key what its right says it may not.
func useWithout(h *Hostile, right uint) error {
	allBut := []uint{}
	for _, other := range rights[2:] {
		if other != right {
			allBut = append(allBut, other)
		}
	}
	value := random(16)
	o, err := h.create(aesKey(allBut...), value)
	if err != nil {
		return needed(err)
	}
	block := make([]byte, 16)
	m := mechanism(pkcs11.CKM_AES_ECB)
	switch right {
	case pkcs11.CKA_ENCRYPT:
		return h.enciphersLike(o, value)
	case pkcs11.CKA_DECRYPT:
		_, err = h.decrypt(m, o, block)
		return err
	case pkcs11.CKA_SIGN:
		return refused("C_SignInit", h.ctx.SignInit(h.session, []*pkcs11.Mechanism{mechanism(pkcs11.CKM_AES_CMAC)}, o))
	case pkcs11.CKA_VERIFY:
		return refused("C_VerifyInit", h.ctx.VerifyInit(h.session, []*pkcs11.Mechanism{mechanism(pkcs11.CKM_AES_CMAC)}, o))
	case pkcs11.CKA_DERIVE:
		_, err = h.deriveData(pkcs11.CKM_AES_ECB_ENCRYPT_DATA, block, o, aesKey().of(16))
		return err
	case pkcs11.CKA_WRAP:
		target, _, err := h.victim(aesKey(pkcs11.CKA_EXTRACTABLE), 16)
		if err != nil {
			return err
		}
		_, err = h.wrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), o, target)
		return err
	case pkcs11.CKA_UNWRAP:
		other, err := h.create(aesKey(pkcs11.CKA_WRAP), value)
		if err != nil {
			return needed(err)
		}
		target, _, err := h.victim(aesKey(pkcs11.CKA_EXTRACTABLE), 16)
		if err != nil {
			return err
		}
		wrapped, err := h.wrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), other, target)
		if err != nil {
			return needed(err)
		}
		_, err = h.unwrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), o, wrapped, aesKey())
		return err
	}
	return fmt.Errorf("no use for attribute 0x%X", right)
}

// leftOut makes a key of a template that says nothing of rights.
func (h *Hostile) leftOut(value []byte) (object, error) {
	o, err := h.ctx.CreateObject(h.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		yes(pkcs11.CKA_PRIVATE),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
	})
	return o, needed(refused("C_CreateObject", err))
}

// rightUnnamed leaves a right out of the template: what then holds is the token's own choice.
func rightUnnamed(h *Hostile, right uint) error {
	o, err := h.leftOut(random(16))
	if err != nil {
		return err
	}
	return h.says(o, right)
}

// sensitiveUnnamed leaves CKA_SENSITIVE out, and reads.
func sensitiveUnnamed(h *Hostile) error {
	value := random(16)
	o, err := h.leftOut(value)
	if err != nil {
		return err
	}
	return h.reads(o, value)
}
