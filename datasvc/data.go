package datasvc

import (
	"context"

	"keyd/dukpt"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
)

// DataKey names a key that enciphers data, as a request does.
type DataKey struct {
	KeyID     string
	Mode      int32         // keyd.v1.DataKey.Mode
	DUKPT     *keyuse.DUKPT // set if the request says that the key is a BDK
	Direction int32         // keyd.v1.DataKey.Direction
}

// Encrypt enciphers data. iv is a block for CBC, or empty for a random one; in CTR mode it
// is empty. Errors are refusals of package fault in the order that the package comment
// gives, or ctx's error.
func (s *Service) Encrypt(ctx context.Context, k DataKey, data, iv []byte) (hsm.EncryptedData, error) {
	one, err := s.begin(ctx, ActionEncrypt, k, "plaintext", data, iv)
	if err != nil {
		return hsm.EncryptedData{}, err
	}
	r := hsm.EncryptData{Key: one.key, Data: data, IV: iv, Demands: one.demands}
	answer, err := keyuse.Repeated(ctx, s.keys, one.uses, one.identity, func(refused bool) (hsm.EncryptedData, bool, error) {
		r.KSNRefused = refused
		answer, err := s.modules.EncryptData(ctx, r)
		return answer, true, err
	})
	return keyuse.Answered(s.keys.Entry(ctx), answer, answer.Custody, err)
}

// Decrypt deciphers data. Errors are refusals of package fault in the order that the
// package comment gives, or ctx's error.
func (s *Service) Decrypt(ctx context.Context, k DataKey, data, iv []byte) (hsm.DecryptedData, error) {
	one, err := s.begin(ctx, ActionDecrypt, k, "ciphertext", data, iv)
	if err != nil {
		return hsm.DecryptedData{}, err
	}
	r := hsm.DecryptData{Key: one.key, Data: data, IV: iv, Demands: one.demands}
	answer, err := keyuse.Repeated(ctx, s.keys, one.uses, one.identity, func(refused bool) (hsm.DecryptedData, bool, error) {
		r.KSNRefused = refused
		answer, err := s.modules.DecryptData(ctx, r)
		return answer, true, err
	})
	return keyuse.Answered(s.keys.Entry(ctx), answer, answer.Custody, err)
}

// one is a request with one data key that the policy allows.
type one struct {
	key      hsm.DataKey
	demands  hsm.Demands
	uses     keyuse.Serials
	identity func() keyuse.Identity
}

// begin records a request with one data key, checks its shape, and asks whether the caller
// may use the key.
func (s *Service) begin(ctx context.Context, action string, k DataKey, field string, data, iv []byte) (one, error) {
	entry := s.keys.Entry(ctx)
	keyuse.Record(entry, k.KeyID, k.DUKPT)
	if err := k.check("key"); err != nil {
		return one{}, err
	}
	if err := checkData(field, data, iv); err != nil {
		return one{}, err
	}
	serial, err := k.DUKPT.Serial("key")
	if err != nil {
		return one{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, action, entry, k.named("key"))
	if err != nil {
		return one{}, err
	}
	o := one{key: k.with(key[0], serial), demands: demands}
	k.use(&o.uses, key[0], serial)
	o.identity = func() keyuse.Identity {
		return keyuse.AppendField(k.identify(keyuse.NewIdentity(action), key[0], o.key).Digest(data), iv)
	}
	return o, nil
}

// ReEncryptRequest asks for data to be enciphered under another key.
type ReEncryptRequest struct {
	Incoming, Outgoing DataKey
	Data               []byte
	IV                 []byte // of Data
	OutgoingIV         []byte // as for Encrypt
}

// ReEncrypt enciphers data under another key. Errors are refusals of package fault in the
// order that the package comment gives, or ctx's error.
func (s *Service) ReEncrypt(ctx context.Context, r ReEncryptRequest) (hsm.EncryptedData, error) {
	entry := s.keys.Entry(ctx)
	keyuse.Record(entry, r.Incoming.KeyID, r.Incoming.DUKPT)
	keyuse.Record(entry, r.Outgoing.KeyID, r.Outgoing.DUKPT)
	in, out, err := r.check()
	if err != nil {
		return hsm.EncryptedData{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionReEncrypt, entry, r.Incoming.named("incoming"), r.Outgoing.named("outgoing"))
	if err != nil {
		return hsm.EncryptedData{}, err
	}
	var uses keyuse.Serials
	r.Incoming.use(&uses, key[0], in)
	r.Outgoing.use(&uses, key[1], out)
	m := hsm.ReEncryptData{
		Incoming: r.Incoming.with(key[0], in), Outgoing: r.Outgoing.with(key[1], out),
		Data: r.Data, IV: r.IV, OutgoingIV: r.OutgoingIV, Demands: demands,
	}
	id := func() keyuse.Identity {
		id := r.Incoming.identify(keyuse.NewIdentity(ActionReEncrypt), key[0], m.Incoming)
		id = r.Outgoing.identify(id, key[1], m.Outgoing).Digest(r.Data)
		return keyuse.AppendField(keyuse.AppendField(id, r.IV), r.OutgoingIV)
	}
	answer, err := keyuse.Repeated(ctx, s.keys, uses, id, func(refused bool) (hsm.EncryptedData, bool, error) {
		m.KSNRefused = refused
		answer, err := s.modules.ReEncryptData(ctx, m)
		return answer, true, err
	})
	return keyuse.Answered(entry, answer, answer.Custody, err)
}

// check is about the shape alone.
func (r ReEncryptRequest) check() (in, out dukpt.KSN, err error) {
	if err = r.Incoming.check("incoming"); err != nil {
		return
	}
	if err = r.Outgoing.check("outgoing"); err != nil {
		return
	}
	if err = checkData("ciphertext", r.Data, r.IV); err != nil {
		return
	}
	if len(r.OutgoingIV) > maxIV {
		err = keyuse.Invalid("outgoing_initialization_vector has 8 bytes for TDES, 16 for AES")
		return
	}
	if in, err = r.Incoming.DUKPT.Serial("incoming"); err != nil {
		return
	}
	out, err = r.Outgoing.DUKPT.Serial("outgoing")
	return
}

// check is about the shape of everything but the KSN.
func (k DataKey) check(field string) error {
	if err := keyuse.CheckKeyID(field+".key_id", k.KeyID); err != nil {
		return err
	}
	if k.Mode < int32(hsm.CBC) || k.Mode > int32(hsm.CTR) {
		return keyuse.Invalid(field + ".mode is CBC or CTR")
	}
	return checkDirection(field, k.DUKPT, k.Direction)
}

// maxIV is the size of the largest block in bytes.
const maxIV = 16

// checkData is about what can be said without the key, on which block sizes depend.
func checkData(field string, data, iv []byte) error {
	if len(data) == 0 {
		return keyuse.Invalid(field + " is empty")
	}
	if len(iv) > maxIV {
		return keyuse.Invalid("initialization_vector has 8 bytes for TDES, 16 for AES")
	}
	return checkMessage(field, data)
}

func (k DataKey) named(field string) keyuse.Named {
	return keyuse.Named{Field: field + ".key_id", Name: k.KeyID}
}

// with returns the key as a module gets it.
func (k DataKey) with(key keys.Key, serial dukpt.KSN) hsm.DataKey {
	return hsm.DataKey{
		Key: keyuse.Sealed(key), KSN: serial, WorkingType: k.DUKPT.WorkingType(),
		Mode: hsm.DataMode(k.Mode), Response: k.Direction == response,
	}
}

func (k DataKey) use(uses *keyuse.Serials, key keys.Key, serial dukpt.KSN) {
	class := ksn.DataRequest
	if k.Direction == response {
		class = ksn.DataResponse
	}
	uses.Add(key, serial, class)
}

// identify adds the key to the identity of a request.
func (k DataKey) identify(i keyuse.Identity, key keys.Key, m hsm.DataKey) keyuse.Identity {
	return append(i.Key(key).Serial(m.KSN), uint8(m.WorkingType), uint8(m.Mode), uint8(k.Direction))
}
