package records

import (
	"context"
	"strconv"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
	"keyd/pinsvc"
)

// Entry is a PIN block of a subject's number.
type Entry struct {
	Key   pinsvc.PINKey // one that carries PINs of records
	Block []byte        // 8 bytes, 16 in ISO format 4
}

// entered are the blocks of a request, with their keys.
type entered struct {
	blocks  []hsm.RecordBlock
	demands hsm.Demands
	uses    keyuse.Serials
	id      keyuse.Identity
}

// named is an entry with the name of its field.
type named struct {
	field string
	Entry
}

// enter checks the shape of entries, asks the policy about their keys, and finds these. A key that
// carries other PINs is refused here already, so that it is whoever the subject is.
func (s *Service) enter(ctx context.Context, action string, entries ...named) (*entered, error) {
	entry := s.used.Entry(ctx)
	for i := range entries {
		keyuse.Record(entry, entries[i].Key.KeyID, entries[i].Key.DUKPT)
	}
	var request []keyuse.Named
	for i := range entries {
		n := &entries[i]
		if err := n.Key.Check(n.field + ".incoming"); err != nil {
			return nil, err
		}
		if n.Key.Format == format1 || n.Key.Format == format2 {
			return nil, keyuse.Invalid(n.field + ".incoming.format is one whose blocks have the subject's number: ISO_FORMAT_0, ISO_FORMAT_3 or ISO_FORMAT_4")
		}
		if err := pinsvc.CheckBlock(n.field+".encrypted_pin_block", n.Block, n.Key); err != nil {
			return nil, err
		}
		request = append(request, n.Key.Named(n.field+".incoming"))
	}
	serials := make([]dukpt.KSN, len(entries))
	for i := range entries {
		var err error
		if serials[i], err = entries[i].Key.DUKPT.Serial(entries[i].field + ".incoming"); err != nil {
			return nil, err
		}
	}
	found, demands, err := s.used.Authorized(ctx, action, entry, request...)
	if err != nil {
		return nil, err
	}
	in := &entered{demands: demands, id: keyuse.NewIdentity(action)}
	for i := range entries {
		if err := carries(&found[i], entries[i].field); err != nil {
			return nil, err
		}
		block := hsm.RecordBlock{Key: entries[i].Key.With(found[i], serials[i]), Block: entries[i].Block}
		in.blocks = append(in.blocks, block)
		in.uses.Add(found[i], serials[i], ksn.PINIncoming)
		in.id = keyuse.AppendField(pinsvc.Identify(in.id, found[i], block.Key), block.Block)
	}
	return in, nil
}

// The formats whose blocks have no number, as the contract counts them.
const (
	format1 = 2
	format2 = 3
)

func carries(k *keys.Key, field string) error {
	h := k.Header
	if h.Usage != "P0" && h.Usage != "B0" || !h.CarriesRecords() {
		return fault.New(fault.KeyUsageMismatch, field+".incoming: PINs of records come under a PIN key or a base derivation key for them (pin_kind record)")
	}
	return nil
}

// about writes whose PIN it is about into the audit entry.
func about(entry *audit.Entry, what string) { entry.Detail = what }

// keptVerdict is how an answer is kept with a key serial number.
var keptVerdict = keyuse.Form[bool]{
	Encode: func(verified bool) []byte { return strconv.AppendBool(nil, verified) },
	Decode: func(b []byte) (bool, bool) {
		verified, err := strconv.ParseBool(string(b))
		return verified, err == nil
	},
}
