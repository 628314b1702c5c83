package module

import (
	"bytes"
	"crypto/elliptic"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keyagreement"
	"keyd/receipt"
	"keyd/store"
)

// injected is a terminal that has keys by key agreement.
func (f *factory) injected(terminal string, master hsm.MasterSpec, keys ...hsm.InitialKey) *has {
	f.t.Helper()
	tm := f.begin(f.device(elliptic.P521()), keyagreement.P521, f.issuer.cert)
	given, err := f.inject(tm.Request(), func(r *hsm.InjectByAgreement) { r.Terminal, r.Master = terminal, master }, keys...)
	f.must(err)
	return f.agreed(tm, keyagreement.P521, given)
}

// Nothing passes for a receipt that the terminal has not made of the keys that it was given.
func TestReceiptsThatAreRefused(t *testing.T) {
	f := newFactory(t)
	key := hsm.InitialKey{BDK: f.key("bdk", 1), ID: []byte("12345678")}
	aes := hsm.MasterSpec{Algorithm: "A", Length: 16}
	for _, master := range []hsm.MasterSpec{aes, {Algorithm: "T", Length: 16}} {
		key.ID = []byte("1234567" + master.Algorithm)
		h, other := f.injected("t-1", master, key), f.injected("t-2", master)
		zone := f.created(zone("zonal" + master.Algorithm))
		for name, c := range map[string]struct {
			change func(*hsm.ConfirmInjection)
			want   fault.Reason
		}{
			"another MAC":                 {func(c *hsm.ConfirmInjection) { c.MAC[0] ^= 1 }, fault.ReceiptInvalid},
			"a truncated MAC":             {func(c *hsm.ConfirmInjection) { c.MAC = c.MAC[:4] }, fault.ReceiptInvalid},
			"no MAC":                      {func(c *hsm.ConfirmInjection) { c.MAC = nil }, fault.ReceiptInvalid},
			"a longer MAC":                {func(c *hsm.ConfirmInjection) { c.MAC = append(c.MAC, 0)[:min(16, len(c.MAC)+1)]; c.MAC[0] ^= 1 }, fault.ReceiptInvalid},
			"other check values":          {func(c *hsm.ConfirmInjection) { c.CheckValues[2] = "000000" }, fault.ReceiptInvalid},
			"check values exchanged":      {func(c *hsm.ConfirmInjection) { slices.Reverse(c.CheckValues) }, fault.ReceiptInvalid},
			"one check value less":        {func(c *hsm.ConfirmInjection) { c.CheckValues = c.CheckValues[:2] }, fault.ReceiptInvalid},
			"a check value in lower case": {func(c *hsm.ConfirmInjection) { c.CheckValues[0] = "abcdef" }, fault.RequestInvalid},
			"none":                        {func(c *hsm.ConfirmInjection) { c.CheckValues = nil }, fault.RequestInvalid},
			"another terminal's key":      {func(c *hsm.ConfirmInjection) { c.ReceiptKey = f.receipt(other).ReceiptKey }, fault.ReceiptInvalid},
			"the master key":              {func(c *hsm.ConfirmInjection) { c.ReceiptKey = h.master() }, fault.ReceiptInvalid},
			"a key of officers":           {func(c *hsm.ConfirmInjection) { c.ReceiptKey = zone }, fault.ReceiptInvalid},
			"its key under another name":  {func(c *hsm.ConfirmInjection) { c.ReceiptKey.Name = "terminal:t-2:receipt" }, fault.KeySealInvalid},
			"another's record":            {func(c *hsm.ConfirmInjection) { c.Record = other.given.Record }, fault.ReceiptInvalid},
			"an altered record": {func(c *hsm.ConfirmInjection) {
				c.Record = bytes.Replace(c.Record, []byte(`"terminal":"t-1"`), []byte(`"terminal":"t-9"`), 1)
			}, fault.KeySealInvalid},
			"an altered code":      {func(c *hsm.ConfirmInjection) { c.Record[len(c.Record)-1] ^= 1 }, fault.KeySealInvalid},
			"a record of no code":  {func(c *hsm.ConfirmInjection) { c.Record = c.Record[:len(c.Record)-16] }, fault.KeySealInvalid},
			"no record":            {func(c *hsm.ConfirmInjection) { c.Record = nil }, fault.KeySealInvalid},
			"a sealed key for one": {func(c *hsm.ConfirmInjection) { c.Record = h.given.Master }, fault.KeySealInvalid},
			"the epoch for one":    {func(c *hsm.ConfirmInjection) { c.Record = f.epochs[len(f.epochs)-1] }, fault.KeySealInvalid},
		} {
			said := f.receipt(h)
			said.Record, said.MAC, said.CheckValues = bytes.Clone(said.Record), bytes.Clone(said.MAC), slices.Clone(said.CheckValues)
			c.change(&said)
			statement, err := f.client.ConfirmInjection(t.Context(), said)
			if err == nil || statement != nil || fault.Of(err).Reason != c.want {
				t.Errorf("%s, %s: %v, want %s", master.Algorithm, name, err, c.want)
			}
		}
		// The terminal's MAC over other values than the record has, by which it says that it has
		// other keys.
		said := f.receipt(h)
		said.CheckValues = slices.Clone(said.CheckValues)
		said.CheckValues[0] = "012345"
		id, err := hex.DecodeString(h.record.Injection)
		f.must(err)
		text, err := receipt.Text([16]byte(id), said.CheckValues)
		f.must(err)
		said.MAC = f.mac(master.Algorithm, h.values[1], text)
		_, err = f.client.ConfirmInjection(t.Context(), said)
		f.refused(err, fault.ReceiptInvalid)
		if fault.Of(err).Detail() == "" {
			t.Error("it does not say that the keys are others")
		}
		f.confirmed(h)
		f.confirmed(h) // whose answer was lost
	}
}

// A receipt's key makes no MAC here, and verifies none that is truncated: neither a front nor
// anybody else makes a receipt for a terminal.
func TestTheReceiptKeyIsForReceiptsOnly(t *testing.T) {
	f := newFactory(t)
	h := f.injected("t-1", hsm.MasterSpec{Algorithm: "A", Length: 16})
	said := f.receipt(h)
	key := hsm.MACKey{Key: said.ReceiptKey, Algorithm: hsm.CMAC, Padding: 1}
	_, err := f.client.GenerateMAC(t.Context(), hsm.GenerateMAC{Key: key, Message: []byte("text")})
	f.refused(err, fault.KeyUsageMismatch)
	_, err = f.client.VerifyMAC(t.Context(), hsm.VerifyMAC{Key: key, Message: []byte("text"), MAC: []byte("1234")})
	f.refused(err, fault.RequestInvalid)
	for _, k := range []hsm.Key{h.master(), said.ReceiptKey} {
		f.refused(f.use(k), fault.KeyUsageMismatch)
		if _, err := f.client.CertificateRequest(t.Context(), k, hsm.CertificateSubject{CommonName: "x"}); fault.Of(err).Reason != fault.KeyUsageMismatch {
			t.Errorf("%s: a certificate for it: %v", k.Name, err)
		}
	}
}

// No ceremony is about a terminal's keys, nor gives a key such a name.
func TestCeremoniesLeaveTerminalsKeysAlone(t *testing.T) {
	f := newFactory(t)
	h := f.injected("t-1", hsm.MasterSpec{Algorithm: "A", Length: 32})
	f.created(zone("leaves", func(k *ceremony.KeySpec) { k.Exportability = "E" }))
	f.created(&ceremony.KeySpec{Name: "kbpk", Version: 1, Usage: "K1", Algorithm: "A", Length: 32, Mode: "E", Exportability: "N"})
	master := &ceremony.KeyRef{Name: h.master().Name, Version: 1}
	for name, d := range map[string]*ceremony.Definition{
		"export of a master key": {Kind: ceremony.Export, Target: master, Under: &ceremony.KeyRef{Name: "kbpk", Version: 1}, Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}},
		"export under one":       {Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "leaves", Version: 1}, Under: master, Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}},
		"stop":                   {Kind: ceremony.Stop, Target: master},
		"delete":                 {Kind: ceremony.Delete, Target: master, Wait: ceremony.MinWait},
		"a key of that name":     {Kind: ceremony.Create, Key: zone("terminal:t-1:pin")},
		"the next version":       {Kind: ceremony.Create, Key: zone(master.Name, func(k *ceremony.KeySpec) { k.Version = 2 })},
	} {
		d.ValidFor = 3600
		if err := f.through(d); fault.Of(err).Reason != fault.DefinitionInvalid || !strings.Contains(err.Error(), "terminal") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A front that puts one in the place of another key.
	definition := &ceremony.Definition{
		Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "leaves", Version: 1}, Under: &ceremony.KeyRef{Name: "kbpk", Version: 1},
		Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}, ValidFor: 3600,
	}
	encoded, err := ceremony.Encode(definition)
	f.must(err)
	wish := f.sign("alice", ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(encoded)})
	kbpk, leaves := f.key("kbpk", 1), f.key("leaves", 1)
	begin := func(under, target hsm.Key) error {
		_, err := f.client.BeginCeremony(t.Context(), hsm.BeginCeremony{Definition: encoded, Statement: hsm.Signed(wish), Keys: hsm.KeyInputs{Under: &under, Target: &target}})
		return err
	}
	f.must(begin(kbpk, leaves))
	f.refused(begin(h.master(), leaves), fault.KeyNotFound)
	f.refused(begin(hsm.Key{Name: "kbpk", Sealed: h.given.Master}, leaves), fault.KeySealInvalid)
	f.refused(begin(kbpk, hsm.Key{Name: "leaves", Sealed: h.given.ReceiptKey}), fault.KeySealInvalid)
	if _, err := f.client.Reseal(t.Context(), h.master()); err != nil {
		t.Error(err)
	}
}

// Keys of terminals and their records outlive a change of master keys, until the old ones are
// retired.
func TestTerminalsKeysAreSealedAnew(t *testing.T) {
	f := newFactory(t)
	h := f.injected("t-1", hsm.MasterSpec{Algorithm: "T", Length: 24})
	specs := []hsm.SessionKeySpec{{Name: "mac", Usage: "M3", Algorithm: "T", Length: 16, Version: 1, NotAfter: f.now.Unix() + 3600}}
	made, err := f.client.MakeSessionKeys(t.Context(), h.master(), specs)
	f.must(err)
	mac := hsm.Key{Name: "terminal:t-1:mac", Sealed: made[0].Sealed}
	cer, err := f.begun(replacement())
	f.must(err)
	cer, err = f.shares(cer, append(append([]string{}, nextShares...), presentShares...)...)
	f.must(err)
	f.must(f.approved(cer))
	f.confirmed(h) // by the record of the first generation
	generate := func(k hsm.Key) ([]byte, error) {
		m, err := f.client.GenerateMAC(t.Context(), hsm.GenerateMAC{Key: hsm.MACKey{Key: k, Algorithm: hsm.MACAlgorithm3, Padding: 1}, Message: []byte("message")})
		return m.MAC, err
	}
	before, err := generate(mac)
	f.must(err)
	old := *h.given
	anew := func(k hsm.Key) []byte {
		sealed, err := f.client.Reseal(t.Context(), k)
		f.must(err)
		parsed, err := hsm.ParseSealed(sealed)
		f.must(err)
		if parsed.Header.Generation != 2 || parsed.Header.Device != h.record.Device {
			t.Errorf("%s: %+v", k.Name, parsed.Header)
		}
		return sealed
	}
	said := f.receipt(h)
	h.given.Master, h.given.ReceiptKey = anew(h.master()), anew(said.ReceiptKey)
	mac2 := hsm.Key{Name: mac.Name, Sealed: anew(mac)}
	f.confirmed(h)
	_, err = f.front.Reseal(t.Context())
	f.must(err)
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}))
	after, err := generate(mac2)
	f.must(err)
	if !bytes.Equal(before, after) {
		t.Error("the session key is another")
	}
	made, err = f.client.MakeSessionKeys(t.Context(), h.master(), specs)
	f.must(err)
	if _, value := f.opened("T", h.values[0], made[0].KeyBlock); len(value) != 16 {
		t.Error("the master key is another")
	}
	// What the old ones have made counts no more, and the terminal begins anew.
	_, err = f.client.ConfirmInjection(t.Context(), f.receipt(h))
	f.refused(err, fault.KeySealInvalid)
	_, err = f.client.MakeSessionKeys(t.Context(), hsm.Key{Name: h.master().Name, Sealed: old.Master}, specs)
	f.refused(err, fault.KeySealInvalid)
	_, err = generate(mac)
	f.refused(err, fault.KeySealInvalid)
}

// enrolled has the front keep a terminal with its confirmed injection, as package terminals does.
func (f *factory) enrolled(h *has) {
	f.t.Helper()
	id := h.record.Terminal
	f.must(f.database.AddTerminal(f.t.Context(), store.TerminalRecord{
		ID: id, Owner: "m", Model: "m", Serial: "1", KeySet: "shop", State: store.TerminalRegistered, Revision: 1, RegisteredAt: f.now, ChangedAt: f.now,
	}, store.TerminalEvent{Kind: "registered", At: f.now}))
	f.pending(h, 1)
	i := f.stored(h)
	said := f.receipt(h)
	statement, err := f.client.ConfirmInjection(f.t.Context(), said)
	f.must(err)
	f.must(f.database.ConfirmInjection(f.t.Context(), id, i.ID, i.Revision, said.MAC, statement, f.now, store.TerminalEvent{Kind: "keys-confirmed", At: f.now}))
}

// pending has the front keep an answer that was not confirmed, the n-th of the terminal.
func (f *factory) pending(h *has, n byte) {
	f.t.Helper()
	digest := bytes.Repeat([]byte{n}, 32)
	i, err := f.database.BeginInjection(f.t.Context(), store.Begin{Most: 10, MostAll: 100, Injection: store.Injection{
		ID: h.record.Injection, Terminal: h.record.Terminal, Method: "KEY_AGREEMENT", KeySet: "shop", KeySetVersion: 1, Request: digest, Nonce: digest, Created: f.now, ConfirmBy: f.now.Add(24 * time.Hour),
	}})
	f.must(err)
	f.must(f.database.AnswerInjection(f.t.Context(), store.Given{
		Terminal: i.Terminal, ID: i.ID, Revision: i.Revision, Answer: h.given.Answer, KeyBlocks: h.given.KeyBlocks, Record: h.given.Record, Master: h.given.Master, ReceiptKey: h.given.ReceiptKey,
		ConfirmBy: i.ConfirmBy, At: f.now,
	}, store.TerminalEvent{Kind: "keys-sent", At: f.now}))
}

func (f *factory) stored(h *has) store.Injection {
	f.t.Helper()
	i, err := f.database.Injection(f.t.Context(), h.record.Terminal, h.record.Injection)
	f.must(err)
	return i
}

// kept is a sealed key of a terminal as the database has it now.
func (f *factory) kept(h *has, name string) hsm.Key {
	f.t.Helper()
	list, err := f.database.KeysOfTerminal(f.t.Context(), h.record.Terminal)
	f.must(err)
	for _, k := range list {
		if k.Name == name && k.Injection == h.record.Injection {
			return hsm.Key{Name: hsm.TerminalPrefix + k.Terminal + ":" + k.Name, Sealed: k.Sealed}
		}
	}
	f.t.Fatalf("terminal %s has no key %s of injection %s", h.record.Terminal, name, h.record.Injection)
	return hsm.Key{}
}

// The front seals every key of its terminals anew: master and session keys of what is confirmed,
// master and receipt key of what is not. Signing in and session keys go on once the old master
// keys are retired; a record that they made counts no more, and its terminal asks anew.
func TestTheFrontSealsTerminalsKeysAnew(t *testing.T) {
	f := newFactory(t)
	ctx := t.Context()
	f.must(f.database.AddKeySet(ctx, store.KeySet{Name: "shop", Version: 1, Content: []byte("shop"), CreatedAt: f.now}))
	h := f.injected("t-1", hsm.MasterSpec{Algorithm: "A", Length: 16})
	f.enrolled(h)
	specs := []hsm.SessionKeySpec{{Name: "mac", Usage: "M6", Algorithm: "A", Length: 16, Version: 1, NotAfter: f.now.Unix() + 3600}}
	made, err := f.client.MakeSessionKeys(ctx, f.kept(h, store.MasterName), specs)
	f.must(err)
	f.must(f.database.AddSessionKeys(ctx, "t-1", h.record.Injection, []store.TerminalKey{{
		Terminal: "t-1", Name: "mac", Version: 1, Injection: h.record.Injection, Sealed: made[0].Sealed, NotAfter: f.now.Add(time.Hour), CreatedAt: f.now,
	}}))
	late := f.injected("t-2", hsm.MasterSpec{Algorithm: "A", Length: 16})
	f.enrolled(late)
	waits := f.injected("t-2", hsm.MasterSpec{Algorithm: "A", Length: 16})
	f.pending(waits, 2)
	generate := func(k hsm.Key) ([]byte, error) {
		m, err := f.client.GenerateMAC(ctx, hsm.GenerateMAC{Key: hsm.MACKey{Key: k, Algorithm: hsm.CMAC, Padding: 1}, Message: []byte("message")})
		return m.MAC, err
	}
	before, err := generate(f.kept(h, "mac"))
	f.must(err)
	old := map[string]hsm.Key{}
	for _, name := range []string{store.MasterName, "mac"} {
		old[name] = f.kept(h, name)
	}

	cer, err := f.begun(replacement())
	f.must(err)
	cer, err = f.shares(cer, append(append([]string{}, nextShares...), presentShares...)...)
	f.must(err)
	f.must(f.approved(cer))
	for round, name := range []string{"before they are sealed anew", "and after"} {
		if round == 1 {
			r, err := f.front.Reseal(ctx)
			if err != nil || r.Left != 0 || r.Done < 5 {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if after, err := generate(f.kept(h, "mac")); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s the session key is another: %v", name, err)
		}
		_, err = f.client.MakeSessionKeys(ctx, f.kept(h, store.MasterName), specs)
		f.must(err)
		waits.given.Master, waits.given.ReceiptKey = f.kept(waits, store.MasterName).Sealed, f.kept(waits, store.ReceiptName).Sealed
		f.confirmed(waits) // the module's record is of before
	}
	list, err := f.database.ListTerminalKeys(ctx, store.TerminalKey{}, store.MaxList)
	f.must(err)
	if len(list) != 5 { // t-1: master, mac; t-2: two masters, receipt
		t.Errorf("%d keys of terminals", len(list))
	}
	for _, k := range list {
		s, err := hsm.ParseSealed(k.Sealed)
		f.must(err)
		if s.Header.Generation != 2 {
			t.Errorf("%s of %s is sealed by generation %d", k.Name, k.Terminal, s.Header.Generation)
		}
	}

	f.must(f.through(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}))
	f.restart()
	if after, err := generate(f.kept(h, "mac")); err != nil || !bytes.Equal(after, before) {
		t.Errorf("once they are retired the session key is another: %v", err)
	}
	for _, of := range []*has{h, late, waits} {
		made, err := f.client.MakeSessionKeys(ctx, f.kept(of, store.MasterName), specs)
		f.must(err)
		if _, value := f.opened("A", of.values[0], made[0].KeyBlock); len(value) != 16 {
			t.Errorf("the master key of %s is another", of.record.Terminal)
		}
	}
	_, err = f.client.ConfirmInjection(ctx, f.receipt(waits))
	f.refused(err, fault.KeySealInvalid)
	_, err = generate(old["mac"])
	f.refused(err, fault.KeySealInvalid)
	_, err = f.client.MakeSessionKeys(ctx, old[store.MasterName], specs)
	f.refused(err, fault.KeySealInvalid)
	anew := f.injected("t-2", hsm.MasterSpec{Algorithm: "A", Length: 16})
	f.pending(anew, 3)
	f.confirmed(anew)
}
