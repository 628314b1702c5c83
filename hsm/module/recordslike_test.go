package module

import (
	"bytes"
	"testing"

	"keyd/fault"
	"keyd/hsm"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// untried are records with which nothing can be compared, for a subject that has a PIN: one that no
// module has sealed, and one that is dead.
func (b *bank) untried(s pinrecord.Subject, record []byte) map[string][]byte {
	b.t.Helper()
	decoy := bytes.Clone(record)
	decoy[len(decoy)-1] ^= 1
	g := b.begin(pinrecord.Reset, s, 2)
	reset, err := b.set(g, b.aes, g.code, "551872")
	b.expect("reset", reset.Verified, err, true)
	return map[string][]byte{"no module's": decoy, "dead": record, "alive": reset.Record}
}

// Whatever a module refuses is refused alike whether there is a PIN to compare with or not; and with
// the right PIN too, nothing but the last refusal says which it is.
func TestRefusalsDoNotSayWhoHasAPIN(t *testing.T) {
	b := newBank(t)
	f := voidFields8()
	s := supervisor("dora")
	records := b.untried(s, b.enrolled(s, b.aes, "739104"))
	number := s.Number()
	last := map[string]fault.Reason{"no module's": fault.KeySealInvalid, "dead": fault.PINRecordEnded}
	for name, c := range map[string]struct {
		block   func() *entered
		demands hsm.Demands
		want    fault.Reason
	}{
		"a wrong PIN":          {func() *entered { return b.aes.enter(number, "739105") }, hsm.Demands{}, 0},
		"another number":       {func() *entered { return b.aes.enter("4012345678909", "739105") }, hsm.Demands{}, fault.PINBlockInvalid},
		"a cardholder's key":   {func() *entered { return b.cards.enter(number, "739105") }, hsm.Demands{}, fault.KeyUsageMismatch},
		"custody of the token": {func() *entered { return b.aes.enter(number, "739105") }, hsm.Demands{TokenCustody: true}, fault.CustodyUnavailable},
		"a KSN that was used":  {func() *entered { return b.aes.enter(number, "739105") }, hsm.Demands{KSNRefused: true}, fault.KSNReplayed},
		"a format that the key has not": {func() *entered {
			e := b.tdes.enter(number, "739105")
			e.Key.Format = hsm.Format1
			return e
		}, hsm.Demands{}, fault.KeyUsageMismatch},
	} {
		for kind, record := range records {
			want := c.want
			if want == 0 {
				want = last[kind]
			}
			b.must(b.client.UnblockRecord(t.Context(), records["alive"], b.approved(b.approval(pinrecord.Unblock, s, 2), b.anna, b.bert)))
			verified, err := b.client.VerifyRecord(t.Context(), hsm.VerifyRecord{Record: record, DatumKey: b.key("datum", 1), PIN: c.block().RecordBlock, Demands: c.demands})
			b.like(name+", "+kind+", verified", verified, err, want)
			changed, err := b.client.ChangeRecord(t.Context(), hsm.ChangeRecord{
				Record: record, DatumKey: b.key("datum", 1), Current: c.block().RecordBlock, New: b.aes.enter(number, "660193").RecordBlock, Demands: c.demands,
			})
			b.like(name+", "+kind+", changed", changed.Verified || changed.Record != nil, err, want)
			answer, err := b.authorize(f, func(r *hsm.AuthorizeVoid) { r.Demands = c.demands }, b.bySupervisor(c.block().void(f), record))
			b.like(name+", "+kind+", a void", answer.Verified, err, want)
		}
	}
}

// like compares an answer that is no to what is asked, for that reason; 0 is for no other reason.
func (b *bank) like(what string, yes bool, err error, want fault.Reason) {
	b.t.Helper()
	if yes || (err == nil) != (want == 0) || err != nil && fault.Of(err).Reason != want {
		b.t.Errorf("%s: %v, %v, want %v", what, yes, err, want)
	}
}

// The module's own limit is reached after as many tries of what cannot be tried; a PIN that is set
// afterwards has tries of its own, and so has a code that approvers have begun.
func TestTheOwnLimitDoesNotSayWhoHasAPIN(t *testing.T) {
	b := newBank(t)
	f := voidFields8()
	s, emil := supervisor("dora"), supervisor("emil")
	genuine := b.enrolled(emil, b.aes, "739104")
	decoy := bytes.Replace(genuine, []byte("emil"), []byte("dora"), 1)
	try := func() error { _, err := b.verify(decoy, b.aes.enter(s.Number(), "739104").RecordBlock); return err }
	for range triesADay {
		b.refused(try(), fault.KeySealInvalid)
	}
	b.refused(try(), fault.RateLimited)
	_, err := b.authorize(f, nil, b.bySupervisor(b.aes.enter(s.Number(), "739104").void(f), decoy))
	b.refused(err, fault.RateLimited)
	_, err = b.change(decoy, b.aes.enter(s.Number(), "739104").RecordBlock, b.aes.enter(s.Number(), "551872").RecordBlock)
	b.refused(err, fault.RateLimited)
	verified, err := b.verify(genuine, b.aes.enter(emil.Number(), "739104").RecordBlock)
	b.expect("another subject", verified, err, true)

	g := b.begin(pinrecord.Enrol, s, 1)
	for range triesADay {
		answer, err := b.set(g, b.aes, "00000000", "551872")
		b.expect("a wrong code", answer.Verified, err, false)
	}
	_, err = b.set(g, b.aes, g.code, "551872")
	b.refused(err, fault.RateLimited)
	g = b.begin(pinrecord.Enrol, s, 2)
	record, err := b.set(g, b.aes, g.code, "551872")
	b.expect("another code", record.Verified, err, true)
	for range triesADay {
		verified, err := b.verify(record.Record, b.aes.enter(s.Number(), "551873").RecordBlock)
		b.expect("a wrong PIN", verified, err, false)
	}
	// The same request, whose answer was lost, gives no tries.
	again, err := b.set(g, b.aes, g.code, "551872")
	if b.expect("set again", again.Verified, err, true); !bytes.Equal(again.Record, record.Record) {
		t.Error("the same PIN makes another record")
	}
	_, err = b.verify(record.Record, b.aes.enter(s.Number(), "551872").RecordBlock)
	b.refused(err, fault.RateLimited)
}

// A record that no module has made tells nothing of the PIN of the subject that it names, whatever
// datum it has, and makes no other record dead.
func TestARecordOfTheFrontsOwnIsNoOracle(t *testing.T) {
	b := newBank(t)
	s := supervisor("dora")
	record := b.enrolled(s, b.aes, "739104")
	genuine, _, mac, err := pinrecord.Parse(record)
	b.must(err)
	for name, change := range map[string]func(*pinrecord.Record){
		"the same":          func(*pinrecord.Record) {},
		"a later version":   func(r *pinrecord.Record) { r.Version = 7 },
		"another datum":     func(r *pinrecord.Record) { r.Datum = "00112233445566778899aabbccddeeff" },
		"of every terminal": func(r *pinrecord.Record) { r.Subject.Terminal = "t-1" },
	} {
		own := *genuine
		change(&own)
		body, err := own.Encode()
		b.must(err)
		forged := append(body, mac...)
		if name == "the same" {
			forged[len(forged)-1] ^= 1
		}
		number := own.Subject.Number()
		for _, pin := range []string{"739104", "739105"} {
			verified, err := b.verify(forged, b.aes.enter(number, pin).RecordBlock)
			b.like(name+", verified", verified, err, fault.KeySealInvalid)
			changed, err := b.change(forged, b.aes.enter(number, pin).RecordBlock, b.aes.enter(number, "112233").RecordBlock)
			b.like(name+", changed", changed.Verified, err, fault.KeySealInvalid)
		}
		b.must(b.client.UnblockRecord(t.Context(), record, b.approved(b.approval(pinrecord.Unblock, s, 1), b.anna, b.bert)))
	}
	answer, err := b.authorize(voidFields8(), nil, b.bySupervisor(b.aes.enter(s.Number(), "739104").void(voidFields8()), record))
	b.expect("after all that", answer.Verified, err, true)
	b.good("after all that", answer.Token, voidFields8(), "token", voidtoken.SupervisorPIN)
}

// What somebody has typed at one terminal replaces no PIN with what a front has kept of another.
func TestAPINIsReplacedAtOneTerminal(t *testing.T) {
	b := newBank(t)
	s := supervisor("dora")
	number := s.Number()
	elsewhere := b.padWith("records", "A", "0123456789ABCDEE00000000", xor(t, cardComponentA, componentA))
	theirs := func(pin string) hsm.RecordBlock { return elsewhere.enter(number, pin).RecordBlock }
	mine := func(pin string) hsm.RecordBlock { return b.aes.enter(number, pin).RecordBlock }
	g := b.begin(pinrecord.Enrol, s, 1)
	for _, blocks := range [][2]hsm.RecordBlock{{mine(g.code), theirs("551872")}, {mine(g.code), b.tdes.enter(number, "551872").RecordBlock}} {
		answer, err := b.setBlocks(g.pending, blocks[0], blocks[1])
		b.like("set", answer.Verified, err, fault.KeyUsageMismatch)
	}
	answer, err := b.setBlocks(g.pending, theirs(g.code), theirs("739104"))
	b.expect("set at one terminal", answer.Verified, err, true)
	changed, err := b.change(answer.Record, mine("739104"), theirs("551872"))
	b.like("changed", changed.Verified, err, fault.KeyUsageMismatch)
	changed, err = b.change(answer.Record, mine("739104"), mine("551872"))
	b.expect("changed at one terminal, another one", changed.Verified, err, true)
}
