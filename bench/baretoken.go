package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/development"
)

// bareToken is SoftHSM without keyd: one session of this process.
type bareToken struct {
	ctx       *pkcs11.Ctx
	session   pkcs11.SessionHandle
	tdes, aes pkcs11.ObjectHandle
	data      *[16]byte
}

func newBareToken(dir string) (*bareToken, error) {
	tokens := filepath.Join(dir, "bare")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(tokens, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil {
		return nil, err
	}
	library, err := development.FindSoftHSM()
	if err != nil {
		return nil, err
	}
	b := &bareToken{ctx: pkcs11.New(library), data: new([16]byte)}
	if b.ctx == nil {
		return nil, errors.New("SoftHSM cannot be loaded")
	}
	if err := b.ctx.Initialize(); err != nil {
		return nil, err
	}
	slots, err := b.ctx.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	if err := b.ctx.InitToken(slots[0], "12345678", "bench"); err != nil {
		return nil, err
	}
	if b.session, err = b.ctx.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return nil, err
	}
	if err := b.ctx.Login(b.session, pkcs11.CKU_SO, "12345678"); err != nil {
		return nil, err
	}
	if err := b.ctx.InitPIN(b.session, "12345678"); err != nil {
		return nil, err
	}
	if err := b.ctx.Logout(b.session); err != nil {
		return nil, err
	}
	if err := b.ctx.Login(b.session, pkcs11.CKU_USER, "12345678"); err != nil {
		return nil, err
	}
	if b.tdes, err = b.key(pkcs11.CKK_DES2); err != nil {
		return nil, err
	}
	b.aes, err = b.key(pkcs11.CKK_AES)
	return b, err
}

func (b *bareToken) key(kind uint) (pkcs11.ObjectHandle, error) {
	return b.ctx.CreateObject(b.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, make([]byte, 16)),
	})
}

// rate returns how often per second the token makes an operation's calls.
func (b *bareToken) rate(o operation, length time.Duration) (float64, error) {
	n := 0
	began := time.Now()
	for time.Since(began) < length {
		if err := b.calls(o.calls); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

func (b *bareToken) calls(c tokenCalls) error {
	for range c.tdes {
		if err := b.encrypt(pkcs11.CKM_DES3_ECB, b.tdes, 8); err != nil {
			return err
		}
	}
	for range c.aes {
		if err := b.encrypt(pkcs11.CKM_AES_ECB, b.aes, 16); err != nil {
			return err
		}
	}
	for range c.derive {
		if err := b.derive(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bareToken) encrypt(mechanism uint, key pkcs11.ObjectHandle, size int) error {
	if err := b.ctx.EncryptInit(b.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
		return fmt.Errorf("C_EncryptInit: %w", err)
	}
	_, err := b.ctx.Encrypt(b.session, b.data[:size])
	return err
}

// derive makes and destroys one key. The parameter is CK_KEY_DERIVATION_STRING_DATA: a
// pointer and a length; b.data lies on the heap and stays where it is.
func (b *bareToken) derive() error {
	parameter := binary.NativeEndian.AppendUint64(nil, uint64(uintptr(unsafe.Pointer(b.data))))
	parameter = binary.NativeEndian.AppendUint64(parameter, 16)
	key, err := b.ctx.DeriveKey(b.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_ECB_ENCRYPT_DATA, parameter)}, b.aes, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 16),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),
	})
	if err != nil {
		return fmt.Errorf("C_DeriveKey: %w", err)
	}
	return b.ctx.DestroyObject(b.session, key)
}
