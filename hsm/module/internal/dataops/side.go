package dataops

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
)

// side is the key under which data come, or go.
type side struct {
	*Engine
	session  *token.Session
	request  *hsm.DataKey
	encrypts bool
	key      sealing.Key
	isBDK    bool
	aes      bool // the key, or working key, is one of AES
	block    int  // size of its blocks

	object  token.Object // what enciphers in the token, or
	derived bool         // made for this operation
	memory  *software.TDESKey
}

// open opens the key and checks what it may be used for. The caller closes the side.
func (e *Engine) open(s *token.Session, r *hsm.DataKey, encrypts bool) (*side, error) {
	d := &side{Engine: e, session: s, request: r, encrypts: encrypts}
	var err error
	if d.key, err = e.keys.Open(s, r.Key); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		d.key.Release()
		return nil, err
	}
	return d, nil
}

// close gives back what the side holds; an error joins err.
func (d *side) close(err *error) {
	if d.derived {
		*err = errors.Join(*err, d.session.Destroy(d.object))
	}
	if d.memory != nil {
		d.memory.Destroy()
	}
	d.key.Release()
}

// check applies the rules, in their order.
func (d *side) check() error {
	h, r := d.key.Header, d.request
	mismatch := func(detail string) error { return fault.New(fault.KeyUsageMismatch, detail) }
	if err := working.CheckKSN(h, r.KSN); err != nil {
		return err
	}
	if h.Usage != "D0" && h.Usage != "B0" {
		return mismatch("a " + h.Usage + " key does not encipher data: that takes a D0 key, or a BDK")
	}
	algorithm := h.Algorithm
	var err error
	if d.isBDK, err = working.CheckBDK(h, r.KSN); err == nil && d.isBDK {
		algorithm, err = working.Algorithm(h, r.WorkingType)
	}
	if err != nil {
		return err
	}
	d.aes, d.block = algorithm == "A", 8
	if d.aes {
		d.block = 16
	}
	if !d.isBDK {
		modes := "DBN"
		if d.encrypts {
			modes = "EBN"
		}
		if err := working.CheckMode(h, modes, "the key may not do this"); err != nil {
			return err
		}
	}
	if err := working.CheckWay(h, d.encrypts, r.Response); err != nil {
		return err
	}
	switch {
	case r.Mode == hsm.CTR && !d.aes:
		return mismatch("CTR mode takes a key, or working key, of AES")
	case !h.Enciphers(r.Mode):
		return mismatch("the key does not encipher data in " + r.Mode.String() + " mode")
	}
	return nil
}

// derive makes what enciphers. A working key of TDES DUKPT is expanded into memory, since
// no PKCS#11 mechanism derives one.
func (d *side) derive(memory *software.TDESKey) error {
	switch {
	case !d.isBDK:
		d.object = d.key.Object
		return nil
	case d.key.Header.Algorithm == "T":
		variant, ok := d.usage().Variant()
		if !ok {
			return errors.New("a data usage without a variant")
		}
		m := &memoryOf(d.session).derive
		defer m.Destroy()
		if err := d.keys.DeriveTDES(d.session, &d.key, d.request.KSN, variant, m); err != nil {
			return err
		}
		erase.Do(func() { *memory = m.Key })
		d.memory = memory
		return nil
	}
	rights := token.MayDecrypt
	if d.encrypts {
		rights = token.MayEncrypt
	}
	var err error
	d.object, err = d.keys.DeriveAES(d.session, &d.key, d.request.KSN, d.usage(), working.Type(d.request.WorkingType), rights)
	d.derived = err == nil
	return err
}

// usage is that of the working key (X9.24-3:2017 table 2; X9.24-1:2009 A.4.1). The names of
// the standard are the terminal's: it enciphers the data of a request.
func (d *side) usage() dukpt.Usage {
	if d.request.Response {
		return dukpt.UsageDataDecryption
	}
	return dukpt.UsageDataEncryption
}

// mechanism is that of CBC mode in the token.
func (d *side) mechanism() uint {
	if d.aes {
		return pkcs11.CKM_AES_CBC
	}
	return pkcs11.CKM_DES3_CBC
}
