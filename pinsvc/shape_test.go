package pinsvc

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"keyd/fault"
	"keyd/keyuse"
)

var (
	zeroCounter  = []byte{0xff, 0xff, 0x98, 0x76, 0x54, 0x32, 0x10, 0xe0, 0, 0}
	heavyCounter = []byte{0xff, 0xff, 0x98, 0x76, 0x54, 0x32, 0x10, 0xe0, 0x07, 0xff} // 11 one-bits
	aesKSN       = []byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0, 0, 0, 1}
)

// shapes are changes that both operations know, with the field that a refusal names.
var shapes = []struct {
	name   string
	change func(in *PINKey, pan *string, block *[]byte)
	reason fault.Reason // 0: nothing is wrong with the shape
	field  string
}{
	{"no key", func(in *PINKey, _ *string, _ *[]byte) { in.KeyID = "" }, fault.RequestInvalid, "incoming.key_id"},
	{"longest key name", func(in *PINKey, _ *string, _ *[]byte) { in.KeyID = "may." + strings.Repeat("x", 124) }, 0, ""},
	{"key name too long", func(in *PINKey, _ *string, _ *[]byte) { in.KeyID = "may." + strings.Repeat("x", 125) }, fault.RequestInvalid, "incoming.key_id"},
	{"key name of other characters", func(in *PINKey, _ *string, _ *[]byte) { in.KeyID = "may zone" }, fault.RequestInvalid, "incoming.key_id"},
	{"key name that begins badly", func(in *PINKey, _ *string, _ *[]byte) { in.KeyID = ".may" }, fault.RequestInvalid, "incoming.key_id"},
	{"no format", func(in *PINKey, _ *string, _ *[]byte) { in.Format = 0 }, fault.RequestInvalid, "incoming.format"},
	{"format after the last", func(in *PINKey, _ *string, _ *[]byte) { in.Format = 6 }, fault.RequestInvalid, "incoming.format"},
	{"format 257", func(in *PINKey, _ *string, _ *[]byte) { in.Format = 257 }, fault.RequestInvalid, "incoming.format"},
	{"negative format", func(in *PINKey, _ *string, _ *[]byte) { in.Format = -1 }, fault.RequestInvalid, "incoming.format"},
	{"format 2, for the module to refuse", func(in *PINKey, _ *string, _ *[]byte) { in.Format = 3 }, 0, ""},
	{"working key after the last", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{KSN: aesKSN, KeyType: 6} }, fault.RequestInvalid, "incoming.dukpt.key_type"},
	{"negative working key", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{KSN: aesKSN, KeyType: -1} }, fault.RequestInvalid, "incoming.dukpt.key_type"},
	{"working key 257", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{KSN: aesKSN, KeyType: 257} }, fault.RequestInvalid, "incoming.dukpt.key_type"},
	{"AES transaction", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{KSN: aesKSN, KeyType: 5} }, 0, ""},
	{"no PAN", func(_ *PINKey, pan *string, _ *[]byte) { *pan = "" }, fault.RequestInvalid, "primary_account_number"},
	{"PAN of 1 digit", func(_ *PINKey, pan *string, _ *[]byte) { *pan = "7" }, 0, ""},
	{"PAN of 19 digits", func(_ *PINKey, pan *string, _ *[]byte) { *pan = "4111111111111111111" }, 0, ""},
	{"PAN of 20 digits", func(_ *PINKey, pan *string, _ *[]byte) { *pan = "41111111111111111111" }, fault.RequestInvalid, "primary_account_number"},
	{"PAN with a blank", func(_ *PINKey, pan *string, _ *[]byte) { *pan = "4111 1111" }, fault.RequestInvalid, "primary_account_number"},
	{"PAN in other digits", func(_ *PINKey, pan *string, _ *[]byte) { *pan = "４１１１" }, fault.RequestInvalid, "primary_account_number"},
	{"no block", func(_ *PINKey, _ *string, block *[]byte) { *block = nil }, fault.RequestInvalid, "encrypted_pin_block"},
	{"block of 7 bytes", func(_ *PINKey, _ *string, block *[]byte) { *block = make([]byte, 7) }, fault.RequestInvalid, "encrypted_pin_block"},
	{"block of 16 bytes in format 0", func(_ *PINKey, _ *string, block *[]byte) { *block = make([]byte, 16) }, fault.RequestInvalid, "encrypted_pin_block"},
	{"block of 8 bytes in format 4", func(in *PINKey, _ *string, _ *[]byte) { in.Format = 5 }, fault.RequestInvalid, "encrypted_pin_block"},
	{"block of 16 bytes in format 4", func(in *PINKey, _ *string, block *[]byte) { in.Format, *block = 5, make([]byte, 16) }, 0, ""},
	{"no KSN", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{} }, fault.KSNInvalid, "incoming.dukpt.key_serial_number"},
	{"KSN of 11 bytes", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{KSN: make([]byte, 11)} }, fault.KSNInvalid, "incoming.dukpt.key_serial_number"},
	{"KSN with counter 0", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{KSN: zeroCounter} }, fault.KSNInvalid, "incoming.dukpt.key_serial_number"},
	{"KSN with 11 one-bits", func(in *PINKey, _ *string, _ *[]byte) { in.DUKPT = &keyuse.DUKPT{KSN: heavyCounter} }, fault.KSNInvalid, "incoming.dukpt.key_serial_number"},
	{"a request and a KSN that are wrong", func(in *PINKey, pan *string, _ *[]byte) { in.DUKPT, *pan = &keyuse.DUKPT{KSN: zeroCounter}, "x" }, fault.RequestInvalid, "primary_account_number"},
}

func TestShape(t *testing.T) {
	s := newService(t)
	for _, c := range shapes {
		r, v, g := translation(), verification(), change()
		c.change(&r.Incoming, &r.PAN, &r.Block)
		c.change(&v.Incoming, &v.PAN, &v.Block)
		c.change(&g.Incoming, &g.PAN, &g.Current)
		g.NewIncoming = &PINKey{KeyID: "may.zone", Format: 1}
		s.expectShape(t, "translate: "+c.name, c.reason, c.field, func() error { _, err := s.Translate(context.Background(), r); return err })
		s.expectShape(t, "verify: "+c.name, c.reason, c.field, func() error { _, err := s.Verify(context.Background(), v); return err })
		s.expectShape(t, "change: "+c.name, c.reason, c.field, func() error { _, err := s.Change(context.Background(), g); return err })
	}
}

func TestShapeOfTranslation(t *testing.T) {
	s := newService(t)
	for name, c := range map[string]struct {
		change func(*TranslateRequest)
		reason fault.Reason
		field  string
	}{
		"as it should be":                        {func(*TranslateRequest) {}, 0, ""},
		"no outgoing key":                        {func(r *TranslateRequest) { r.Outgoing = PINKey{} }, fault.RequestInvalid, "outgoing.key_id"},
		"no outgoing format":                     {func(r *TranslateRequest) { r.Outgoing.Format = 0 }, fault.RequestInvalid, "outgoing.format"},
		"outgoing KSN":                           {func(r *TranslateRequest) { r.Outgoing.DUKPT = &keyuse.DUKPT{KSN: zeroCounter} }, fault.KSNInvalid, "outgoing.dukpt"},
		"both KSNs: the first counts":            {func(r *TranslateRequest) { r.Incoming.DUKPT, r.Outgoing.DUKPT = &keyuse.DUKPT{}, &keyuse.DUKPT{} }, fault.KSNInvalid, "incoming.dukpt"},
		"a KSN before the outgoing key is wrong": {func(r *TranslateRequest) { r.Incoming.DUKPT, r.Outgoing.KeyID = &keyuse.DUKPT{}, "" }, fault.RequestInvalid, "outgoing.key_id"},
		"no PAN, 1 to 1":                         {func(r *TranslateRequest) { r.Incoming.Format, r.Outgoing.Format, r.PAN = 2, 2, "" }, 0, ""},
		"no PAN, 1 to 0":                         {func(r *TranslateRequest) { r.Incoming.Format, r.PAN = 2, "" }, fault.RequestInvalid, "primary_account_number"},
		"no PAN, 0 to 1":                         {func(r *TranslateRequest) { r.Outgoing.Format, r.PAN = 2, "" }, fault.RequestInvalid, "primary_account_number"},
		"bad PAN, 1 to 1":                        {func(r *TranslateRequest) { r.Incoming.Format, r.Outgoing.Format, r.PAN = 2, 2, "x" }, fault.RequestInvalid, "primary_account_number"},
	} {
		r := translation()
		c.change(&r)
		s.expectShape(t, name, c.reason, c.field, func() error { _, err := s.Translate(context.Background(), r); return err })
	}
}

func TestShapeOfVerification(t *testing.T) {
	s := newService(t)
	pvv := func(index int32, value string) func(*VerifyRequest) {
		return func(r *VerifyRequest) { r.VisaPVV = &VisaPVV{index, value} }
	}
	offset := func(value string) func(*VerifyRequest) {
		return func(r *VerifyRequest) { r.VisaPVV, r.IBM3624 = nil, &IBM3624{value} }
	}
	for name, c := range map[string]struct {
		change func(*VerifyRequest)
		reason fault.Reason
		field  string
	}{
		"as it should be":       {func(*VerifyRequest) {}, 0, ""},
		"no verification key":   {func(r *VerifyRequest) { r.VerificationKey = "" }, fault.RequestInvalid, "verification_key_id"},
		"verification key name": {func(r *VerifyRequest) { r.VerificationKey = "a\nb" }, fault.RequestInvalid, "verification_key_id"},
		"no PAN in format 1":    {func(r *VerifyRequest) { r.Incoming.Format, r.PAN = 2, "" }, fault.RequestInvalid, "primary_account_number"},
		"no method":             {func(r *VerifyRequest) { r.VisaPVV = nil }, fault.RequestInvalid, "expected"},
		"two methods":           {func(r *VerifyRequest) { r.IBM3624 = &IBM3624{"1234"} }, fault.RequestInvalid, "expected"},
		"PVKI 0":                {pvv(0, "3856"), 0, ""},
		"PVKI 9":                {pvv(9, "3856"), 0, ""},
		"PVKI 10":               {pvv(10, "3856"), fault.RequestInvalid, "key_index"},
		"PVKI 257":              {pvv(257, "3856"), fault.RequestInvalid, "key_index"},
		"PVKI -1":               {pvv(-1, "3856"), fault.RequestInvalid, "key_index"},
		"PVV of 3 digits":       {pvv(1, "385"), fault.RequestInvalid, "visa_pvv.pvv"},
		"PVV of 5 digits":       {pvv(1, "38567"), fault.RequestInvalid, "visa_pvv.pvv"},
		"PVV in hex":            {pvv(1, "38A6"), fault.RequestInvalid, "visa_pvv.pvv"},
		"offset of 3 digits":    {offset("123"), fault.RequestInvalid, "ibm3624.offset"},
		"offset of 4 digits":    {offset("1234"), 0, ""},
		"offset of 12 digits":   {offset("123456789012"), 0, ""},
		"offset of 13 digits":   {offset("1234567890123"), fault.RequestInvalid, "ibm3624.offset"},
		"offset in hex":         {offset("12F4"), fault.RequestInvalid, "ibm3624.offset"},
		"no offset":             {offset(""), fault.RequestInvalid, "ibm3624.offset"},
		"KSN last":              {func(r *VerifyRequest) { r.Incoming.DUKPT, r.VisaPVV.PVV = &keyuse.DUKPT{}, "" }, fault.RequestInvalid, "visa_pvv.pvv"},
	} {
		r := verification()
		c.change(&r)
		s.expectShape(t, name, c.reason, c.field, func() error { _, err := s.Verify(context.Background(), r); return err })
	}
}

func TestShapeOfGeneration(t *testing.T) {
	s := newService(t)
	for name, c := range map[string]struct {
		change func(*GenerateRequest)
		reason fault.Reason
		field  string
	}{
		"as it should be":      {func(*GenerateRequest) {}, 0, ""},
		"offset":               {func(r *GenerateRequest) { r.PINMethod = PINMethod{IBM3624: &IBM3624{}} }, 0, ""},
		"no outgoing key":      {func(r *GenerateRequest) { r.Outgoing.KeyID = "" }, fault.RequestInvalid, "outgoing.key_id"},
		"no generation key":    {func(r *GenerateRequest) { r.GenerationKey = "" }, fault.RequestInvalid, "generation_key_id"},
		"no PAN":               {func(r *GenerateRequest) { r.PAN = "" }, fault.RequestInvalid, "primary_account_number"},
		"no length":            {func(r *GenerateRequest) { r.Length = 0 }, fault.RequestInvalid, "pin_length"},
		"3 digits":             {func(r *GenerateRequest) { r.Length = 3 }, fault.RequestInvalid, "pin_length"},
		"12 digits":            {func(r *GenerateRequest) { r.Length = 12 }, 0, ""},
		"13 digits":            {func(r *GenerateRequest) { r.Length = 13 }, fault.RequestInvalid, "pin_length"},
		"260 digits":           {func(r *GenerateRequest) { r.Length = 260 }, fault.RequestInvalid, "pin_length"},
		"no method":            {func(r *GenerateRequest) { r.PINMethod = PINMethod{} }, fault.RequestInvalid, "method"},
		"a PVV of the caller":  {func(r *GenerateRequest) { r.VisaPVV = &VisaPVV{1, "3856"} }, fault.RequestInvalid, "method"},
		"an offset of his own": {func(r *GenerateRequest) { r.PINMethod = PINMethod{IBM3624: &IBM3624{"1234"}} }, fault.RequestInvalid, "method"},
		"PVKI 10":              {func(r *GenerateRequest) { r.VisaPVV = &VisaPVV{10, ""} }, fault.RequestInvalid, "key_index"},
		"KSN last":             {func(r *GenerateRequest) { r.Outgoing.DUKPT, r.Length = &keyuse.DUKPT{}, 3 }, fault.RequestInvalid, "pin_length"},
		"KSN":                  {func(r *GenerateRequest) { r.Outgoing.DUKPT = &keyuse.DUKPT{} }, fault.KSNInvalid, "outgoing.dukpt"},
	} {
		r := GenerateRequest{Outgoing: PINKey{KeyID: "may.zone", Format: 1}, GenerationKey: "may.pvk", PAN: pan, Length: 4, PINMethod: PINMethod{VisaPVV: &VisaPVV{KeyIndex: 1}}}
		c.change(&r)
		s.expectShape(t, name, c.reason, c.field, func() error { _, err := s.Generate(context.Background(), r); return err })
	}
}

func TestShapeOfChange(t *testing.T) {
	s := newService(t)
	for name, c := range map[string]struct {
		change func(*ChangeRequest)
		reason fault.Reason
		field  string
	}{
		"as it should be": {func(*ChangeRequest) {}, 0, ""},
		"a new key of its own": {func(r *ChangeRequest) {
			r.NewIncoming = &PINKey{KeyID: "may.zone", Format: 5}
			r.New = make([]byte, 16)
		}, 0, ""},
		"a new key without name":  {func(r *ChangeRequest) { r.NewIncoming = &PINKey{Format: 1} }, fault.RequestInvalid, "new_incoming.key_id"},
		"no current block":        {func(r *ChangeRequest) { r.Current = nil }, fault.RequestInvalid, "current_encrypted_pin_block"},
		"no new block":            {func(r *ChangeRequest) { r.New = nil }, fault.RequestInvalid, "new_encrypted_pin_block"},
		"new block of its format": {func(r *ChangeRequest) { r.NewIncoming = &PINKey{KeyID: "may.zone", Format: 5} }, fault.RequestInvalid, "new_encrypted_pin_block"},
		"no current value":        {func(r *ChangeRequest) { r.VisaPVV.PVV = "" }, fault.RequestInvalid, "current.visa_pvv.pvv"},
		"new KSN":                 {func(r *ChangeRequest) { r.NewIncoming = &PINKey{KeyID: "may.bdk", Format: 1, DUKPT: &keyuse.DUKPT{}} }, fault.KSNInvalid, "new_incoming.dukpt"},
	} {
		r := change()
		c.change(&r)
		s.expectShape(t, name, c.reason, c.field, func() error { _, err := s.Change(context.Background(), r); return err })
	}
}

// expectShape runs a request and expects a refusal that names the field before the
// policy is asked; or, where the shape is good, that the policy is asked.
func (s *service) expectShape(t *testing.T, name string, want fault.Reason, field string, run func() error) {
	t.Helper()
	s.entry.Keys, s.asked = nil, nil
	err := run()
	f := fault.Of(err)
	switch {
	case want == 0 && (len(s.asked) != 1 || f.Reason == fault.RequestInvalid || f.Reason == fault.KSNInvalid):
		t.Errorf("%s: %v, and the policy was asked %d times", name, err, len(s.asked))
	case want != 0 && (f.Reason != want || len(s.asked) != 0):
		t.Errorf("%s: %v, and the policy was asked %d times; want %v", name, err, len(s.asked), want)
	case want != 0 && !strings.Contains(f.Detail(), field):
		t.Errorf("%s: %q does not name %s", name, f.Detail(), field)
	}
	for _, secret := range []string{pan, "4111", "3856", "38567", "1234"} {
		if want != 0 && strings.Contains(f.Error(), secret) {
			t.Errorf("%s: %q repeats what was sent", name, f.Error())
		}
	}
}

// Whatever a request holds, it is refused or it reaches the policy; what reaches the
// audit entry of it is fit for that.
func FuzzTranslate(f *testing.F) {
	f.Add("may.zone", int32(1), []byte(nil), int32(0), pan, make([]byte, 8))
	f.Add("may.bdk", int32(5), aesKSN, int32(3), "", make([]byte, 16))
	f.Add(pan, int32(-7), zeroCounter, int32(99), "\xff", []byte(nil))
	check := func(t *testing.T, r TranslateRequest) {
		c := &caller{}
		r.record(&c.entry)
		if len(c.entry.Keys) != 2 || strings.ContainsAny(c.entry.Keys[0].Name, "\x00\n ") {
			t.Errorf("%+v", c.entry)
		}
		in, out, err := r.check()
		if err != nil {
			if reason := fault.Of(err).Reason; reason != fault.RequestInvalid && reason != fault.KSNInvalid {
				t.Errorf("%v", err)
			}
			return
		}
		if len(r.PAN) > 19 || len(r.Block) != r.Incoming.hsmFormat().BlockSize() {
			t.Errorf("accepted: %+v", r)
		}
		if r.Incoming.DUKPT != nil && !bytes.Equal(in.Bytes(), r.Incoming.DUKPT.KSN) || !bytes.Equal(out.Bytes(), nil) {
			t.Errorf("%v, %v of %+v", in, out, r)
		}
	}
	f.Fuzz(func(t *testing.T, name string, format int32, ksn []byte, working int32, pan string, block []byte) {
		r := TranslateRequest{Incoming: PINKey{KeyID: name, Format: format}, Outgoing: PINKey{KeyID: "may.zone", Format: 1}, PAN: pan, Block: block}
		check(t, r)
		r.Incoming.DUKPT = &keyuse.DUKPT{KSN: ksn, KeyType: working}
		check(t, r)
	})
}
