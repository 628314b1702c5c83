package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/development"
)

// bareToken is SoftHSM without keyd: one session of this process, one call after the
// other.
type bareToken struct {
	ctx       *pkcs11.Ctx
	session   pkcs11.SessionHandle
	tdes, aes pkcs11.ObjectHandle
	data      *[512]byte // one or more blocks, and derivation data
}

// tokenPIN is that of a token with no secret in it.
const tokenPIN = "12345678"

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
	b := &bareToken{ctx: pkcs11.New(library), data: new([512]byte)}
	if b.ctx == nil {
		return nil, errors.New("SoftHSM cannot be loaded")
	}
	if err := b.ctx.Initialize(); err != nil {
		b.ctx.Destroy()
		return nil, fmt.Errorf("bare token: C_Initialize: %w", err)
	}
	if err := b.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("bare token: %w", err), b.close())
	}
	return b, nil
}

func (b *bareToken) open() error {
	slots, err := b.ctx.GetSlotList(true)
	if err != nil {
		return err
	}
	if len(slots) == 0 {
		return errors.New("SoftHSM has no slot")
	}
	if err := b.ctx.InitToken(slots[0], tokenPIN, "bench"); err != nil {
		return err
	}
	if b.session, err = b.ctx.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return err
	}
	if err := b.ctx.Login(b.session, pkcs11.CKU_SO, tokenPIN); err != nil {
		return err
	}
	if err := b.ctx.InitPIN(b.session, tokenPIN); err != nil {
		return err
	}
	if err := b.ctx.Logout(b.session); err != nil {
		return err
	}
	if err := b.ctx.Login(b.session, pkcs11.CKU_USER, tokenPIN); err != nil {
		return err
	}
	if b.tdes, err = b.key(pkcs11.CKK_DES2); err != nil {
		return err
	}
	b.aes, err = b.key(pkcs11.CKK_AES)
	return err
}

func (b *bareToken) close() error {
	err := b.ctx.Finalize()
	b.ctx.Destroy()
	return err
}

func (b *bareToken) key(kind uint) (pkcs11.ObjectHandle, error) {
	return b.ctx.CreateObject(b.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, keyValue("bare token")),
	})
}

// tokenCosts is how long the bare token takes for each PKCS#11 call, in microseconds.
type tokenCosts struct {
	TDES1  float64 `json:"des3_ecb_1_block_us"`
	TDES16 float64 `json:"des3_ecb_16_blocks_us"`
	TDES64 float64 `json:"des3_ecb_64_blocks_us"`
	AES1   float64 `json:"aes_ecb_1_block_us"`
	Derive float64 `json:"aes_derive_and_destroy_us"`
}

// measure calls the token for about length in all. Each cost is the median of several
// rounds, in which the calls take turns: whatever else the machine does meets them alike.
func (b *bareToken) measure(length time.Duration) (c tokenCosts, err error) {
	const rounds = 5
	calls := []struct {
		cost *float64
		call func() error
	}{
		{&c.TDES1, func() error { return b.encrypt(pkcs11.CKM_DES3_ECB, b.tdes, 8) }},
		{&c.TDES16, func() error { return b.encrypt(pkcs11.CKM_DES3_ECB, b.tdes, 16*8) }},
		{&c.TDES64, func() error { return b.encrypt(pkcs11.CKM_DES3_ECB, b.tdes, 64*8) }},
		{&c.AES1, func() error { return b.encrypt(pkcs11.CKM_AES_ECB, b.aes, 16) }},
		{&c.Derive, b.derive},
	}
	times := make([][]float64, len(calls))
	for range rounds {
		for i, call := range calls {
			n, began := 0, time.Now()
			for n == 0 || time.Since(began) < length/rounds/time.Duration(len(calls)) {
				if err := call.call(); err != nil {
					return c, err
				}
				n++
			}
			times[i] = append(times[i], float64(time.Since(began).Nanoseconds())/1e3/float64(n))
		}
	}
	for i, call := range calls {
		slices.Sort(times[i])
		*call.cost = times[i][rounds/2]
	}
	return c, nil
}

func (b *bareToken) encrypt(mechanism uint, key pkcs11.ObjectHandle, size int) error {
	if err := b.ctx.EncryptInit(b.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
		return fmt.Errorf("bare token: C_EncryptInit: %w", err)
	}
	if _, err := b.ctx.Encrypt(b.session, b.data[:size]); err != nil {
		return fmt.Errorf("bare token: C_Encrypt: %w", err)
	}
	return nil
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
		return fmt.Errorf("bare token: C_DeriveKey: %w", err)
	}
	if err := b.ctx.DestroyObject(b.session, key); err != nil {
		return fmt.Errorf("bare token: C_DestroyObject: %w", err)
	}
	return nil
}
