package abuse

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// What attributes are worth: each attempt has an object whose attribute should stop it.

// rightAdded gives a wrapping key the right to decipher afterwards, and uses it.
func rightAdded(h *Hostile, wrapping key) error {
	kek, _, err := h.victim(wrapping, 32)
	if err != nil {
		return err
	}
	if err := h.set(kek, pkcs11.CKA_DECRYPT, true); err != nil {
		return err
	}
	return h.decipherWrapped(kek)
}

// rightCopied copies it with the right.
func rightCopied(h *Hostile, wrapping key) error {
	kek, _, err := h.victim(wrapping, 32)
	if err != nil {
		return err
	}
	again, err := h.copied(kek, yes(pkcs11.CKA_DECRYPT))
	if err != nil {
		return err
	}
	return h.decipherWrapped(again)
}

// laidOpen takes the protection of a key away, in place or in a copy, and reads it.
func laidOpen(h *Hostile, copies bool) error {
	o, value, err := h.victim(aesKey(pkcs11.CKA_EXTRACTABLE), 16)
	if err != nil {
		return err
	}
	if copies {
		o, err = h.copied(o, no(pkcs11.CKA_SENSITIVE))
	} else {
		err = h.set(o, pkcs11.CKA_SENSITIVE, false)
	}
	if err != nil {
		return err
	}
	return h.reads(o, value)
}

// madeExtractable makes a key that must not leave leave.
func madeExtractable(h *Hostile, copies bool) error {
	o, value, err := h.victim(aesKey(), 16)
	if err != nil {
		return err
	}
	if copies {
		o, err = h.copied(o, yes(pkcs11.CKA_EXTRACTABLE))
	} else {
		err = h.set(o, pkcs11.CKA_EXTRACTABLE, true)
	}
	if err != nil {
		return err
	}
	kekValue := random(32)
	kek, err := h.create(aesKey(pkcs11.CKA_WRAP), kekValue)
	if err != nil {
		return needed(err)
	}
	return h.opened(kek, kekValue, o, value)
}

// readVictim asks for the value of a sensitive key.
func readVictim(h *Hostile, victim key) error {
	o, value, err := h.victim(victim, 32)
	if err != nil {
		return err
	}
	got, err := h.read(o)
	if err != nil {
		return err
	}
	return same(got, value)
}

// list is an attribute that holds attributes, each a boolean. It is copied by the pkcs11
// package, but what it points to must stay where it is until free.
func list(kind uint, inner ...*pkcs11.Attribute) (*pkcs11.Attribute, func()) {
	var pinned runtime.Pinner
	var out []byte
	for _, a := range inner {
		pinned.Pin(&a.Value[0])
		out = binary.NativeEndian.AppendUint64(out, uint64(a.Type))
		out = binary.NativeEndian.AppendUint64(out, uint64(uintptr(unsafe.Pointer(&a.Value[0]))))
		out = binary.NativeEndian.AppendUint64(out, uint64(len(a.Value)))
	}
	return pkcs11.NewAttribute(kind, out), pinned.Unpin
}

// boolean is a CK_BBOOL in memory of Go's, which can be pinned.
func boolean(kind uint, on bool) *pkcs11.Attribute {
	value := []byte{0}
	if on {
		value[0] = 1
	}
	return &pkcs11.Attribute{Type: kind, Value: value}
}

// readAgainstUnwrapTemplate unwraps to something that can be read under a key whose unwrap
// template says sensitive.
func readAgainstUnwrapTemplate(h *Hostile) error {
	template, free := list(pkcs11.CKA_UNWRAP_TEMPLATE, boolean(pkcs11.CKA_SENSITIVE, true))
	defer free()
	return unwrapAgain(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP).with(template), readable(), h.reads)
}

// rightAgainstUnwrapTemplate unwraps to a key that may encipher where the unwrap template says
// that it may not; rightBesideUnwrapTemplate where it says nothing of it.
func rightAgainstUnwrapTemplate(h *Hostile) error {
	return unwrapWith(h, boolean(pkcs11.CKA_SENSITIVE, true), boolean(pkcs11.CKA_ENCRYPT, false))
}

func rightBesideUnwrapTemplate(h *Hostile) error {
	return unwrapWith(h, boolean(pkcs11.CKA_SENSITIVE, true))
}

func unwrapWith(h *Hostile, inner ...*pkcs11.Attribute) error {
	template, free := list(pkcs11.CKA_UNWRAP_TEMPLATE, inner...)
	defer free()
	return unwrapAgain(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP).with(template), aesKey(pkcs11.CKA_ENCRYPT), h.enciphersLike)
}

// wrapAgainstWrapTemplate wraps a key that the wrap template of the wrapping key excludes.
func wrapAgainstWrapTemplate(h *Hostile) error {
	template, free := list(pkcs11.CKA_WRAP_TEMPLATE, boolean(pkcs11.CKA_DERIVE, true))
	defer free()
	return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP).with(template), aesKey(pkcs11.CKA_EXTRACTABLE))
}

// readAgainstDeriveTemplate derives what can be read from a key whose derive template says
// sensitive.
func readAgainstDeriveTemplate(h *Hostile) error {
	template, free := list(pkcs11.CKA_DERIVE_TEMPLATE, boolean(pkcs11.CKA_SENSITIVE, true))
	defer free()
	return derivedRead(derivations[0], aesKey(pkcs11.CKA_DERIVE).with(template))(h)
}

// only limits a key to a mechanism.
func only(mechanism uint) *pkcs11.Attribute {
	return pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, binary.NativeEndian.AppendUint64(nil, uint64(mechanism)))
}

// trustedClaimed wraps a key that only trusted keys may wrap under one that a user made and
// says is trusted: only the security officer may say so.
func trustedClaimed(h *Hostile) error {
	return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP).with(yes(pkcs11.CKA_TRUSTED)), aesKey(pkcs11.CKA_EXTRACTABLE).with(yes(pkcs11.CKA_WRAP_WITH_TRUSTED)))
}

// claimed makes a key of a known value and has the token say what cannot be so.
func claimed(h *Hostile, kind uint) error {
	o, err := h.create(aesKey().with(yes(kind)), random(16))
	if err != nil {
		return err
	}
	return h.says(o, kind)
}

// says is an abuse whose end is that the token says yes.
func (h *Hostile) says(o object, kind uint) error {
	on, err := h.flag(o, kind)
	if err == nil && !on {
		err = instead("the token says no")
	}
	return err
}

// imported brings a known value in and asks whether it was always in the token.
func imported(h *Hostile, kind uint) error {
	o, err := h.create(aesKey(), random(16))
	if err != nil {
		return needed(err)
	}
	return h.says(o, kind)
}

// notCopyable, notDestroyable and notModifiable do to a key what an attribute forbids.
func notCopyable(h *Hostile) error {
	o, _, err := h.victim(aesKey().with(no(pkcs11.CKA_COPYABLE)), 16)
	if err != nil {
		return err
	}
	_, err = h.copied(o, pkcs11.NewAttribute(pkcs11.CKA_LABEL, "another"))
	return err
}

func notDestroyable(h *Hostile) error {
	o, _, err := h.victim(aesKey().with(no(pkcs11.CKA_DESTROYABLE)), 16)
	if err != nil {
		return err
	}
	return refused("C_DestroyObject", h.ctx.DestroyObject(h.session, o))
}

func notModifiable(h *Hostile) error {
	o, _, err := h.victim(aesKey().with(no(pkcs11.CKA_MODIFIABLE)), 16)
	if err != nil {
		return err
	}
	return h.set(o, pkcs11.CKA_LABEL, "another")
}
