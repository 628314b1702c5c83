package module

import (
	"bytes"
	"crypto/elliptic"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/pinrecord"
	"keyd/store"
)

// A subject gets a PIN that nobody else has seen, changes it, has it reset, and loses it; on every
// way in which a block can come.
func TestLifeOfAPINRecord(t *testing.T) {
	b := newBank(t)
	for name, c := range map[string]struct {
		pad    *pad
		format hsm.Format
	}{"AES DUKPT": {b.aes, hsm.Format4}, "TDES DUKPT": {b.tdes, hsm.Format0}, "TDES DUKPT, ISO-3": {b.tdes, hsm.Format3}} {
		s := supervisor("dora-" + string('a'+rune(c.format)))
		number := s.Number()
		enter := func(pin string) hsm.RecordBlock { return c.pad.enterAs(c.format, number, []byte(pin)).RecordBlock }
		g := b.begin(pinrecord.Enrol, s, 1)
		wrong := "00000000"
		if g.code == wrong {
			wrong = "00000001"
		}
		answer, err := b.setBlocks(g.pending, enter(wrong), enter("739104"))
		b.expect(name+": a wrong code", answer.Verified, err, false)
		answer, err = b.setBlocks(g.pending, enter(g.code), enter("739104"))
		b.expect(name+": the code", answer.Verified, err, true)
		first := answer.Record
		again, err := b.setBlocks(g.pending, enter(g.code), enter("739104"))
		if b.expect(name+": the answer was lost", again.Verified, err, true); !bytes.Equal(first, again.Record) {
			t.Errorf("%s: the same PIN makes another record", name)
		}
		verified, err := b.verify(first, enter("739104"))
		b.expect(name+": the PIN", verified, err, true)
		verified, err = b.verify(first, enter("739105"))
		b.expect(name+": another PIN", verified, err, false)
		answer, err = b.change(first, enter("739105"), enter("551872"))
		if b.expect(name+": changed with a wrong PIN", answer.Verified, err, false); answer.Record != nil {
			t.Errorf("%s: a record for a wrong PIN", name)
		}
		current, renewed := enter("739104"), enter("551872")
		answer, err = b.change(first, current, renewed)
		b.expect(name+": changed", answer.Verified, err, true)
		second := answer.Record
		b.must(b.client.UnblockRecord(t.Context(), second, b.approved(b.approval(pinrecord.Unblock, s, 2), b.anna, b.claire)))
		again, err = b.change(first, current, renewed)
		if b.expect(name+": changed again", again.Verified, err, true); !bytes.Equal(second, again.Record) {
			t.Errorf("%s: the same change makes another record", name)
		}
		_, err = b.change(first, enter("739104"), enter("551873"))
		b.refused(err, fault.PINRecordEnded)
		_, err = b.change(first, enter("739105"), enter("551873"))
		b.refused(err, fault.PINRecordEnded)
		_, err = b.verify(first, enter("739104"))
		b.refused(err, fault.PINRecordEnded)
		verified, err = b.verify(second, enter("551872"))
		b.expect(name+": the changed PIN", verified, err, true)
		r, _, _, err := pinrecord.Parse(second)
		if err != nil || r.Version != 2 || r.Subject != s || r.Length != 6 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}

		// From the approval of a reset on the PIN is dead; what is dead costs tries like a wrong PIN.
		b.must(b.client.UnblockRecord(t.Context(), second, b.approved(b.approval(pinrecord.Unblock, s, 2), b.anna, b.claire)))
		g = b.begin(pinrecord.Reset, s, 3)
		_, err = b.verify(second, enter("551872"))
		b.refused(err, fault.PINRecordEnded)
		_, err = b.change(second, enter("551872"), enter("402913"))
		b.refused(err, fault.PINRecordEnded)
		answer, err = b.setBlocks(g.pending, enter(g.code), enter("402913"))
		b.expect(name+": reset", answer.Verified, err, true)
		third := answer.Record
		verified, err = b.verify(third, enter("402913"))
		b.expect(name+": the PIN after a reset", verified, err, true)
		b.must(b.client.RevokeRecord(t.Context(), third))
		b.must(b.client.RevokeRecord(t.Context(), third))
		_, err = b.verify(third, enter("402913"))
		b.refused(err, fault.PINRecordEnded)
		_, err = b.beginBy(b.approved(b.approval(pinrecord.Enrol, s, 4), b.anna, b.bert))
		b.refused(err, fault.PINRecordEnded)
		g = b.begin(pinrecord.Enrol, s, 5)
		b.must(b.client.RevokeRecord(t.Context(), g.pending))
		_, err = b.setBlocks(g.pending, enter(g.code), enter("402913"))
		b.refused(err, fault.PINRecordEnded)
	}
}

// A record outlives its master keys: the front seals it anew, and they are not retired before.
func TestRecordsAreSealedAnew(t *testing.T) {
	b := newBank(t)
	s := supervisor("dora")
	record := b.enrolled(s, b.aes, "739104")
	again, err := b.client.ResealRecord(t.Context(), record)
	if err != nil || !bytes.Equal(again, record) {
		t.Errorf("under the same master keys: %v", err)
	}
	altered := bytes.Clone(record)
	altered[len(altered)-1] ^= 1
	_, err = b.client.ResealRecord(t.Context(), altered)
	b.refused(err, fault.KeySealInvalid)

	digest := s.Digest()
	b.must(b.database.AddPINRecord(t.Context(), store.PINRecord{
		Subject: digest[:], Kind: "SUPERVISOR", Merchant: s.Merchant, Terminal: s.Terminal, Name: s.Name, Version: 1, State: store.PINActive,
		Tries: 3, TriesLeft: 3, Record: record, Events: 1, Revision: 1, CreatedAt: b.now, ChangedAt: b.now,
	}, store.PINEvent{Subject: digest[:], Number: 1, Kind: "pin-set", At: b.now}))
	cer, err := b.office.begun(replacement())
	b.must(err)
	cer, err = b.shares(cer, append(append([]string{}, nextShares...), presentShares...)...)
	b.must(err)
	b.must(b.office.approved(cer))
	r, err := b.front.Reseal(t.Context())
	if err != nil || r.Left != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	kept, err := b.database.PINRecord(t.Context(), digest[:])
	b.must(err)
	b.aes.key = b.key("records", 1)
	verify := func(record []byte) (bool, error) {
		return b.verify(record, b.aes.enter(s.Number(), "739104").RecordBlock)
	}
	verified, err := verify(record)
	b.expect("before it is sealed anew", verified, err, true)
	again, err = b.client.ResealRecord(t.Context(), record)
	b.must(err)
	at := len(record) - pinrecord.MACSize
	if !bytes.Equal(kept.Record, again) {
		t.Error("the front has not sealed its record anew")
	}
	// One that is of before, for what reason ever, keeps its master keys from being retired.
	kept.Record = record
	kept, err = b.database.UpdatePINRecord(t.Context(), kept, nil)
	b.must(err)
	_, err = b.office.begun(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600})
	b.refused(err, fault.Conflict)
	kept.Record = again
	_, err = b.database.UpdatePINRecord(t.Context(), kept, nil)
	b.must(err)
	if !bytes.Equal(again[:at], record[:at]) || bytes.Equal(again[at:], record[at:]) {
		t.Error("more than the MAC is another, or not even that")
	}
	b.must(b.through(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}))
	_, err = verify(record)
	b.refused(err, fault.KeySealInvalid)
	verified, err = verify(again)
	b.expect("sealed anew", verified, err, true)
}

// What two approvers have not approved does not begin.
func TestApprovalsThatBeginNothing(t *testing.T) {
	b := newBank(t)
	s := supervisor("dora")
	good := b.approval(pinrecord.Enrol, s, 1)
	other := b.approval(pinrecord.Enrol, s, 2)
	stranger := b.issue(nil, "stranger", elliptic.P256())
	eve := &holder{key: stranger.key, cert: b.certify(stranger, nil, "eve", stranger.key.Public(), b.named("/approvers/eve"))}
	annaTwice := &holder{key: b.anna.key, cert: b.certify(b.approvers, nil, "approver", b.anna.key.Public(), b.named("/approvers/anna-2"))}
	late := b.approver("/approvers/late", b.ended)
	foreign := b.approver("/merchants/merchant-9/fred")
	makers := b.issue(b.issuer, "approver", elliptic.P256(), b.named("/approvers/max"))
	expired := b.approval(pinrecord.Enrol, s, 1, func(a *pinrecord.Approval) { a.NotAfter = b.now.Unix() })
	long := b.approval(pinrecord.Enrol, s, 1, func(a *pinrecord.Approval) { a.NotAfter = b.now.Add(25 * time.Hour).Unix() })
	altered := b.approved(good, b.anna, b.bert)
	for i := range altered {
		altered[i].Document = bytes.Replace(altered[i].Document, []byte("dora"), []byte("eva1"), 1)
	}
	for name, c := range map[string]struct {
		approvals []hsm.Approval
		want      fault.Reason
	}{
		"nobody":                        {nil, fault.RequestInvalid},
		"one":                           {b.approved(good, b.anna), fault.RequestInvalid},
		"one twice":                     {b.approved(good, b.anna, b.anna), fault.ApprovalInvalid},
		"one under two names":           {b.approved(good, b.anna, annaTwice), fault.ApprovalInvalid},
		"one with two certificates":     {b.approved(good, b.anna, b.approver("/approvers/Anna")), fault.ApprovalInvalid},
		"two approvals":                 {append(b.approved(good, b.anna), b.approved(other, b.bert)...), fault.ApprovalInvalid},
		"another merchant's approver":   {b.approved(good, b.anna, foreign), fault.ApprovalInvalid},
		"expired":                       {b.approved(expired, b.anna, b.bert), fault.ApprovalInvalid},
		"for too long":                  {b.approved(long, b.anna, b.bert), fault.ApprovalInvalid},
		"altered":                       {altered, fault.ApprovalInvalid},
		"of its own authority":          {b.approved(good, b.anna, eve), fault.CertificateUntrusted},
		"of an authority for terminals": {b.approved(good, b.anna, makers), fault.CertificateUntrusted},
		"a certificate that has ended":  {b.approved(good, b.anna, late), fault.CertificateExpired},
		"to unblock":                    {b.approved(b.approval(pinrecord.Unblock, s, 1), b.anna, b.bert), fault.ApprovalInvalid},
		"an officer's signature":        {b.signedAs(good, ceremony.ByOfficer), fault.ApprovalInvalid},
	} {
		if _, err := b.beginBy(c.approvals); fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	// With a key that is none for it nothing begins either, and none of it has begun the version.
	for name, key := range map[string]hsm.Key{"a PVK": b.key("pvk", 1), "a BDK": b.key("records", 1)} {
		_, err := b.client.BeginPIN(t.Context(), hsm.BeginPIN{Approvals: b.approved(good, b.anna, b.bert), DatumKey: key})
		if fault.Of(err).Reason != fault.KeyUsageMismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
	first, err := b.beginBy(b.approved(good, b.anna, b.bert))
	b.must(err)
	// The same approvals may be used again, for another code; others for the same version not.
	second, err := b.beginBy(b.approved(good, b.anna, b.bert))
	b.must(err)
	if bytes.Equal(first.pending, second.pending) {
		t.Error("one code is given twice")
	}
	_, err = b.beginBy(b.approved(b.approval(pinrecord.Enrol, s, 1), b.anna, b.bert))
	b.refused(err, fault.PINRecordEnded)
	// Officers end it for all.
	b.must(b.through(&ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{ceremony.Digest(b.approvers.cert.Raw)}, ValidFor: 3600}))
	_, err = b.beginBy(b.approved(other, b.anna, b.bert))
	b.refused(err, fault.CertificateUntrusted)
}

// What a front that was taken over may try with what it has.
func TestAHostileFrontAndPINRecords(t *testing.T) {
	b := newBank(t)
	dora, emil := supervisor("dora"), supervisor("emil")
	first, emils := b.enrolled(dora, b.aes, "739104"), b.enrolled(emil, b.aes, "551872")
	number := dora.Number()

	// A record of somebody else, an altered one, a pending one, a terminal's key.
	verified, err := b.verify(emils, b.aes.enter(number, "739104").RecordBlock)
	if err == nil && verified || err != nil && fault.Of(err).Reason != fault.PINBlockInvalid {
		t.Errorf("one subject's block for another's record: %v, %v", verified, err)
	}
	b.refusedRecord("an altered record", bytes.Replace(first, []byte(`"version":1`), []byte(`"version":9`), 1), b.aes.enter(number, "739104"), fault.KeySealInvalid)
	g := b.begin(pinrecord.Enrol, supervisor("frida"), 1)
	b.refusedRecord("a pending record", g.pending, b.aes.enter(number, "739104"), fault.KeySealInvalid)
	b.refusedRecord("a cardholder's key", first, b.cards.enter(number, "739104"), fault.KeyUsageMismatch)
	_, err = b.setBlocks(first, b.aes.enter(number, "00000000").RecordBlock, b.aes.enter(number, "739104").RecordBlock)
	b.refused(err, fault.KeySealInvalid)
	for what, key := range map[string]hsm.Key{"pvk": b.key("pvk", 1), "records": b.key("records", 1)} {
		_, err := b.client.VerifyRecord(t.Context(), hsm.VerifyRecord{Record: first, DatumKey: key, PIN: b.aes.enter(number, "739104").RecordBlock})
		if fault.Of(err).Reason != fault.KeyUsageMismatch {
			t.Errorf("datum key %s: %v", what, err)
		}
	}
	b.created(&ceremony.KeySpec{Name: "datum-2", Version: 1, Usage: "V0", Algorithm: "A", Length: 16, Mode: "C", Exportability: "N"})
	_, err = b.client.VerifyRecord(t.Context(), hsm.VerifyRecord{Record: first, DatumKey: b.key("datum-2", 1), PIN: b.aes.enter(number, "739104").RecordBlock})
	b.refused(err, fault.KeyUsageMismatch)

	// A block of a record for what other PINs are for.
	in := b.aes.enter(number, "739104")
	_, err = b.client.VerifyPIN(t.Context(), hsm.VerifyPIN{Incoming: in.Key, Verification: b.key("pvk", 1), PAN: number, Block: in.Block, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "0000"}})
	b.refused(err, fault.KeyUsageMismatch)

	// A pending record is set once, by whoever has the code first.
	answer, err := b.set(g, b.aes, g.code, "739104")
	b.expect("set", answer.Verified, err, true)
	_, err = b.set(g, b.aes, g.code, "551872")
	b.refused(err, fault.PINRecordEnded)
	// Nor is an older version set once another was begun, nor by another's code.
	old := b.begin(pinrecord.Reset, supervisor("frida"), 2)
	newer := b.begin(pinrecord.Reset, supervisor("frida"), 3)
	_, err = b.set(old, b.aes, old.code, "402913")
	b.refused(err, fault.PINRecordEnded)
	if old.code != newer.code {
		answer, err = b.set(newer, b.aes, old.code, "402913")
		b.expect("another's code", answer.Verified, err, false)
	}
	// A code is good until its approval ends.
	now := b.now
	b.now = now.Add(time.Hour)
	_, err = b.set(newer, b.aes, newer.code, "402913")
	b.refused(err, fault.ApprovalInvalid)
	b.now = now

	// Tries come back once for each approval, and for what was approved only.
	unblock := b.approved(b.approval(pinrecord.Unblock, dora, 1), b.anna, b.bert)
	b.refused(b.client.UnblockRecord(t.Context(), emils, unblock), fault.ApprovalInvalid)
	b.refused(b.client.UnblockRecord(t.Context(), first, b.approved(b.approval(pinrecord.Unblock, dora, 2), b.anna, b.bert)), fault.ApprovalInvalid)
	b.refused(b.client.UnblockRecord(t.Context(), first, b.approved(b.approval(pinrecord.Reset, dora, 1), b.anna, b.bert)), fault.ApprovalInvalid)
	b.must(b.client.UnblockRecord(t.Context(), first, unblock))
	b.refused(b.client.UnblockRecord(t.Context(), first, unblock), fault.RequestReplayed)

	// A demand of the front's ends it before anything is compared.
	_, err = b.client.VerifyRecord(t.Context(), hsm.VerifyRecord{Record: first, DatumKey: b.key("datum", 1), PIN: b.aes.enter(number, "739104").RecordBlock, Demands: hsm.Demands{KSNRefused: true}})
	b.refused(err, fault.KSNReplayed)
	_, err = b.client.VerifyRecord(t.Context(), hsm.VerifyRecord{Record: first, DatumKey: b.key("datum", 1), PIN: b.aes.enter(number, "739104").RecordBlock, Demands: hsm.Demands{TokenCustody: true}})
	b.refused(err, fault.CustodyUnavailable)
	verified, err = b.verify(first, b.aes.enter(number, "739104").RecordBlock)
	b.expect("after all that", verified, err, true)
}

// PINs that others guess are refused, to who has the code; the code stays good.
func TestWeakPINsAreRefused(t *testing.T) {
	b := newBank(t)
	for n, c := range []struct{ name, pin string }{{"delivered", "888888"}, {"a run", "345678"}, {"short", "7391"}, {"its own number", ""}, {"the code", ""}} {
		guy := supervisor("guy-" + string('a'+rune(n)))
		g := b.begin(pinrecord.Enrol, guy, 1)
		switch c.name {
		case "its own number":
			c.pin = guy.Number()[3:9]
		case "the code":
			c.pin = g.code
		}
		answer, err := b.set(g, b.aes, "00000000", c.pin)
		b.expect(c.name+": with a wrong code", answer.Verified, err, false)
		if _, err = b.set(g, b.aes, g.code, c.pin); fault.Of(err).Reason != fault.PINWeak {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A digit that is none makes no PIN, and is a wrong one.
	hank := supervisor("hank")
	g := b.begin(pinrecord.Enrol, hank, 1)
	number := hank.Number()
	code := b.aes.enter(number, g.code).RecordBlock
	_, err := b.setBlocks(g.pending, code, b.aes.enterAs(hsm.Format4, number, []byte("7A9104")).RecordBlock)
	b.refused(err, fault.PINBlockInvalid)
	answer, err := b.setBlocks(g.pending, code, b.aes.enter(number, "739104").RecordBlock)
	b.expect("the code is still good", answer.Verified, err, true)
	verified, err := b.verify(answer.Record, b.aes.enterAs(hsm.Format4, number, []byte("7A9104")).RecordBlock)
	b.expect("no decimal", verified, err, false)
	_, err = b.change(answer.Record, b.aes.enter(number, "739104").RecordBlock, b.aes.enter(number, "739104").RecordBlock)
	b.refused(err, fault.PINWeak)
	_, err = b.change(answer.Record, b.aes.enter(number, "739104").RecordBlock, b.aes.enter(number, "112233").RecordBlock)
	b.refused(err, fault.PINWeak)
	changed, err := b.change(answer.Record, b.aes.enter(number, "739105").RecordBlock, b.aes.enter(number, "112233").RecordBlock)
	b.expect("a weak one to who does not know the PIN", changed.Verified, err, false)
}

// However many ask at once, a subject's PIN is compared no more often than the limits allow, whatever
// version or record is named; and then the right one is refused as well.
func TestTriesOfPINRecords(t *testing.T) {
	b := newBank(t)
	s := supervisor("ida")
	record := b.enrolled(s, b.aes, "739104")
	blocks := make([]hsm.RecordBlock, 4*triesADay)
	for i := range blocks {
		blocks[i] = b.aes.enter(s.Number(), "739105").RecordBlock
	}
	var compared atomic.Int32
	var wait sync.WaitGroup
	for _, block := range blocks {
		wait.Go(func() {
			switch verified, err := b.client.VerifyRecord(t.Context(), hsm.VerifyRecord{Record: record, DatumKey: b.key("datum", 1), PIN: block}); {
			case err == nil && !verified:
				compared.Add(1)
			case fault.Of(err).Reason != fault.RateLimited:
				t.Errorf("%v, %v", verified, err)
			}
		})
	}
	wait.Wait()
	if n := compared.Load(); n == 0 || n > triesADay {
		t.Errorf("%d comparisons, the limit is %d", n, triesADay)
	}
	for range triesADay { // what raced for the last place was not allowed
		if _, err := b.verify(record, b.aes.enter(s.Number(), "739105").RecordBlock); err != nil {
			break
		}
	}
	_, err := b.verify(record, b.aes.enter(s.Number(), "739104").RecordBlock)
	b.refused(err, fault.RateLimited)
	_, err = b.change(record, b.aes.enter(s.Number(), "739104").RecordBlock, b.aes.enter(s.Number(), "551872").RecordBlock)
	b.refused(err, fault.RateLimited)
	// What is no block costs nothing, and says nothing.
	_, err = b.verify(record, hsm.RecordBlock{Key: b.aes.enter(s.Number(), "739104").Key, Block: make([]byte, 16)})
	b.refused(err, fault.PINBlockInvalid)
	b.must(b.client.UnblockRecord(t.Context(), record, b.approved(b.approval(pinrecord.Unblock, s, 1), b.bert, b.claire)))
	verified, err := b.verify(record, b.aes.enter(s.Number(), "739104").RecordBlock)
	b.expect("unblocked", verified, err, true)

	// So with codes.
	g := b.begin(pinrecord.Enrol, supervisor("jan"), 1)
	for range triesADay {
		if answer, err := b.set(g, b.aes, "00000000", "739104"); err != nil || answer.Verified {
			t.Fatalf("%v, %v", answer.Verified, err)
		}
	}
	_, err = b.set(g, b.aes, g.code, "739104")
	b.refused(err, fault.RateLimited)
}

// No answer has a PIN or a code, in any form.
func TestNoAnswerHasAPIN(t *testing.T) {
	b := newBank(t)
	s := supervisor("kim")
	const pin, other = "739104862517", "286041937508"
	g := b.begin(pinrecord.Enrol, s, 1)
	answer, err := b.set(g, b.aes, g.code, pin)
	b.expect("set", answer.Verified, err, true)
	verified, err := b.verify(answer.Record, b.aes.enter(s.Number(), pin).RecordBlock)
	b.expect("verified", verified, err, true)
	answer, err = b.change(answer.Record, b.aes.enter(s.Number(), pin).RecordBlock, b.aes.enter(s.Number(), other).RecordBlock)
	b.expect("changed", answer.Verified, err, true)
	b.heard.mu.Lock()
	defer b.heard.mu.Unlock()
	heard := b.heard.all.Bytes()
	if !bytes.Contains(heard, answer.Record) {
		t.Fatal("what was answered is not looked at")
	}
	for _, digits := range []string{pin, other, g.code} {
		packed, err := hex.DecodeString(digits)
		b.must(err)
		each := make([]byte, len(digits))
		for i := range each {
			each[i] = digits[i] - '0'
		}
		for form, text := range map[string][]byte{"text": []byte(digits), "packed": packed, "a byte each": each, "hex of text": []byte(hex.EncodeToString([]byte(digits)))} {
			if bytes.Contains(heard, text) {
				t.Errorf("an answer has %d digits as %s", len(digits), form)
			}
		}
	}
}
