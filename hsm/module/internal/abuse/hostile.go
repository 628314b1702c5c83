package abuse

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
)

// Hostile is a module that keeps to no rule: it makes the calls of the interface as it likes.
type Hostile struct {
	ctx     *pkcs11.Ctx
	slot    uint
	pin     string
	session pkcs11.SessionHandle
	tok     *token.Token // of the same process, as keyd opens it
}

type object = pkcs11.ObjectHandle

// Open logs in to the token with that label. library is loaded from path, and initialised.
func Open(library *token.Library, path, label string, pin []byte) (*Hostile, error) {
	slot, info, err := library.FindToken(label)
	if err != nil {
		return nil, err
	}
	tok, err := library.Open(slot, info, pin, 1)
	if err != nil {
		return nil, err
	}
	ctx := pkcs11.New(path) // the same library, which is initialised already
	if ctx == nil {
		return nil, errors.New("the library cannot be loaded a second time")
	}
	return &Hostile{ctx: ctx, slot: slot, pin: string(pin), tok: tok}, nil
}

// Close closes all sessions of the process, which logs it out.
func (h *Hostile) Close() error {
	return refused("C_CloseAllSessions", h.ctx.CloseAllSessions(h.slot))
}

// Attempt makes an attempt in a session of its own and returns its outcome. Nothing that it
// made is left. An error is no answer of the token's: the attempt could not be made.
func (h *Hostile) Attempt(a Attempt) (string, error) {
	own := *h
	var err error
	if own.session, err = h.another(); err != nil {
		return "", err
	}
	got, err := outcome(a.Try(&own))
	return got, errors.Join(err, own.forget(), refused("C_CloseSession", h.ctx.CloseSession(own.session)))
}

// keptLabel is the label of every object that the token keeps. Handles change with a login.
const keptLabel = "keyd abuse attempt"

// keeps are the attributes of such an object.
func keeps() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{yes(pkcs11.CKA_TOKEN), pkcs11.NewAttribute(pkcs11.CKA_LABEL, keptLabel)}
}

// found returns some of them.
func (h *Hostile) found() ([]object, error) {
	if err := h.ctx.FindObjectsInit(h.session, keeps()); err != nil {
		return nil, refused("C_FindObjectsInit", err)
	}
	found, _, err := h.ctx.FindObjects(h.session, 16)
	return found, errors.Join(refused("C_FindObjects", err), refused("C_FindObjectsFinal", h.ctx.FindObjectsFinal(h.session)))
}

// forget destroys what the token keeps of an attempt.
func (h *Hostile) forget() error {
	found, err := h.found()
	for _, o := range found {
		err = errors.Join(err, refused("C_DestroyObject", h.ctx.DestroyObject(h.session, o)))
	}
	return err
}

// another opens a session of the same process.
func (h *Hostile) another() (pkcs11.SessionHandle, error) {
	session, err := h.ctx.OpenSession(h.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	return session, refused("C_OpenSession", err)
}

// refusedFor is refused for a call with a mechanism, and says whether the token lists it for
// that use: the same return value means that the key must not be used with it.
func (h *Hostile) refusedFor(call string, m *pkcs11.Mechanism, use uint, err error) error {
	err = refused(call, err)
	var r *refusal
	if errors.As(err, &r) && r.code == pkcs11.CKR_MECHANISM_INVALID {
		info, none := h.ctx.GetMechanismInfo(h.slot, []*pkcs11.Mechanism{m})
		r.missing = none != nil || info.Flags&use == 0
	}
	return err
}

// key describes an object that is asked for: a session object unless extra says otherwise,
// private, with the attributes of on and no other right.
type key struct {
	kind  uint
	on    []uint
	size  int // 0: the mechanism's
	extra []*pkcs11.Attribute
}

// rights are what a key says yes or no to; what stands in none of keyd's templates is here
// too, since tokens have defaults of their own.
var rights = []uint{
	pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN,
	pkcs11.CKA_VERIFY, pkcs11.CKA_DERIVE, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP,
}

// Keys that are sensitive; whoever wants another leaves CKA_SENSITIVE out.
func aesKey(on ...uint) key  { return key{kind: pkcs11.CKK_AES, on: append(on, pkcs11.CKA_SENSITIVE)} }
func tdesKey(on ...uint) key { return key{kind: pkcs11.CKK_DES2, on: append(on, pkcs11.CKA_SENSITIVE)} }
func secret(on ...uint) key {
	return key{kind: pkcs11.CKK_GENERIC_SECRET, on: append(on, pkcs11.CKA_SENSITIVE)}
}

// readable is a secret whose value the token is to hand out.
func readable() key { return key{kind: pkcs11.CKK_GENERIC_SECRET, on: []uint{pkcs11.CKA_EXTRACTABLE}} }

func (k key) with(extra ...*pkcs11.Attribute) key {
	k.extra = append(slices.Clone(k.extra), extra...)
	return k
}

func (k key) of(size int) key {
	k.size = size
	return k
}

func (k key) template() []*pkcs11.Attribute {
	list := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, k.kind),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
	}
	for _, right := range rights {
		list = append(list, pkcs11.NewAttribute(right, slices.Contains(k.on, right)))
	}
	if k.size != 0 {
		list = append(list, pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, k.size))
	}
	return append(list, k.extra...)
}

// create brings a known value in.
func (h *Hostile) create(k key, value []byte) (object, error) {
	o, err := h.ctx.CreateObject(h.session, append(k.template(), pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)))
	return o, refused("C_CreateObject", err)
}

// victim makes a key whose value the attempt must not learn, and is checked against.
func (h *Hostile) victim(k key, size int) (object, []byte, error) {
	value := random(size)
	if k.kind == pkcs11.CKK_DES2 {
		odd(value)
	}
	o, err := h.create(k, value)
	if err != nil {
		return 0, nil, needed(err)
	}
	for _, right := range rights { // it is as it was asked for, or the attempt proves nothing
		if on, err := h.flag(o, right); err != nil || on != slices.Contains(k.on, right) {
			return 0, nil, errors.Join(needed(err), fmt.Errorf("the token made a key with attribute 0x%X %v", right, on))
		}
	}
	return o, value, nil
}

func (h *Hostile) wrap(mechanism *pkcs11.Mechanism, wrapping, key object) ([]byte, error) {
	out, err := h.ctx.WrapKey(h.session, []*pkcs11.Mechanism{mechanism}, wrapping, key)
	return out, h.refusedFor("C_WrapKey", mechanism, pkcs11.CKF_WRAP, err)
}

func (h *Hostile) unwrap(mechanism *pkcs11.Mechanism, wrapping object, in []byte, k key) (object, error) {
	o, err := h.ctx.UnwrapKey(h.session, []*pkcs11.Mechanism{mechanism}, wrapping, in, k.template())
	return o, h.refusedFor("C_UnwrapKey", mechanism, pkcs11.CKF_UNWRAP, err)
}

func (h *Hostile) derive(mechanism *pkcs11.Mechanism, base object, k key) (object, error) {
	o, err := h.ctx.DeriveKey(h.session, []*pkcs11.Mechanism{mechanism}, base, k.template())
	return o, h.refusedFor("C_DeriveKey", mechanism, pkcs11.CKF_DERIVE, err)
}

// deriveData derives with a mechanism whose parameter is CK_KEY_DERIVATION_STRING_DATA.
func (h *Hostile) deriveData(mechanism uint, data []byte, base object, k key) (object, error) {
	var pinned runtime.Pinner
	defer pinned.Unpin()
	pinned.Pin(&data[0])
	parameter := binary.NativeEndian.AppendUint64(nil, uint64(uintptr(unsafe.Pointer(&data[0]))))
	parameter = binary.NativeEndian.AppendUint64(parameter, uint64(len(data)))
	return h.derive(pkcs11.NewMechanism(mechanism, parameter), base, k)
}

// deriveNumber derives with a mechanism whose parameter is a number.
func (h *Hostile) deriveNumber(mechanism, number uint, base object, k key) (object, error) {
	return h.derive(pkcs11.NewMechanism(mechanism, binary.NativeEndian.AppendUint64(nil, uint64(number))), base, k)
}

func (h *Hostile) encrypt(mechanism *pkcs11.Mechanism, key object, in []byte) ([]byte, error) {
	if err := h.ctx.EncryptInit(h.session, []*pkcs11.Mechanism{mechanism}, key); err != nil {
		return nil, h.refusedFor("C_EncryptInit", mechanism, pkcs11.CKF_ENCRYPT, err)
	}
	out, err := h.ctx.Encrypt(h.session, in)
	return out, refused("C_Encrypt", err)
}

func (h *Hostile) decrypt(mechanism *pkcs11.Mechanism, key object, in []byte) ([]byte, error) {
	if err := h.ctx.DecryptInit(h.session, []*pkcs11.Mechanism{mechanism}, key); err != nil {
		return nil, h.refusedFor("C_DecryptInit", mechanism, pkcs11.CKF_DECRYPT, err)
	}
	out, err := h.ctx.Decrypt(h.session, in)
	return out, refused("C_Decrypt", err)
}

// read asks for an object's value.
func (h *Hostile) read(o object) ([]byte, error) {
	got, err := h.ctx.GetAttributeValue(h.session, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err != nil {
		return nil, refused("C_GetAttributeValue", err)
	}
	return got[0].Value, nil
}

// set changes an attribute of an object that is there.
func (h *Hostile) set(o object, kind uint, value any) error {
	return refused("C_SetAttributeValue", h.ctx.SetAttributeValue(h.session, o, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, value)}))
}

// copied copies an object with other attributes.
func (h *Hostile) copied(o object, attributes ...*pkcs11.Attribute) (object, error) {
	c, err := h.ctx.CopyObject(h.session, o, attributes)
	return c, refused("C_CopyObject", err)
}

// flag reads a boolean attribute.
func (h *Hostile) flag(o object, kind uint) (bool, error) {
	got, err := h.ctx.GetAttributeValue(h.session, o, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil {
		return false, refused("C_GetAttributeValue", err)
	}
	return len(got[0].Value) == 1 && got[0].Value[0] != 0, nil
}

func mechanism(kind uint) *pkcs11.Mechanism { return pkcs11.NewMechanism(kind, nil) }

func yes(kind uint) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, true) }
func no(kind uint) *pkcs11.Attribute  { return pkcs11.NewAttribute(kind, false) }

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // it never fails
	return b
}

// odd gives the bytes of a DES key their parity, which tokens correct or demand.
func odd(b []byte) {
	for i, v := range b {
		ones := 0
		for bit := 1; bit < 8; bit++ {
			ones += int(v>>bit) & 1
		}
		b[i] = v&^1 | byte(1-ones&1)
	}
}

// same is an abuse that got what it was after.
func same(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return errors.New("the attempt went through and got another value")
	}
	return nil
}
