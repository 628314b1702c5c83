package pinops_test

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
	"testing"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/velocity"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// bench is an engine on a fresh token and the means to seal keys for it.
type bench struct {
	*sealedtest.Bench
	tries  *tries.Tries
	engine *pinops.Engine
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{Bench: sealedtest.New(t)}
	b.engine = pinops.NewEngine(b.Keys, nil)
	return b
}

// translate runs one translation by itself.
func (b *bench) translate(r hsm.TranslatePIN) (hsm.TranslatedPIN, error) {
	op := pinops.Operation{Translate: &r}
	b.engine.Run(&op)
	return op.Translated, op.Err
}

// verifyPIN runs one verification by itself.
func (b *bench) verifyPIN(r hsm.VerifyPIN) (hsm.VerifiedPIN, error) {
	op := pinops.Operation{Verify: &r}
	b.engine.Run(&op)
	return op.Verified, op.Err
}

func ksn(t testing.TB, text string) dukpt.KSN {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := dukpt.ParseKSN(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	tdesBDK = "0123456789ABCDEFFEDCBA9876543210"
	aesBDK  = "FEDCBA9876543210F1F1F1F1F1F1F1F1"
	zoneA   = "DDDDEEEEFFFFAAAABBBBCCCCDDDDEEEE"
	zoneB   = "AABBCCDDEEFF00112233445566778899"
	zoneAES = "00112233445566778899AABBCCDDEEFF"
)

func TestTranslatesPublishedBlocks(t *testing.T) {
	b := newBench(t)
	zone := b.Key("P0", "T", "B", zoneB)
	for name, c := range map[string]struct {
		in         hsm.PINKey
		pan, block string
		want       string
	}{
		"zone to zone (translate.json tr-011)": {
			hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA), Format: 0}, "5432101234567890", "7F381DBF9F6906C4", "06C0408B869B2CEB"},
		"TDES DUKPT to zone": {
			hsm.PINKey{Key: b.Key("B0", "T", "X", tdesBDK), KSN: ksn(t, "FFFF9876543210E00001"), Format: 0}, "4012345678909", "1B9C1845EB993A7A", ""},
		"AES DUKPT to zone": {
			hsm.PINKey{Key: b.Key("B0", "A", "X", aesBDK), KSN: ksn(t, "123456789012345600000001"), Format: 4}, "4111111111111111", "A912150391AB65A67E52883D81CE2D15", ""},
	} {
		answer, err := b.translate(hsm.TranslatePIN{Incoming: c.in, Outgoing: hsm.PINKey{Key: zone, Format: 0}, PAN: c.pan, Block: unhex(t, c.block)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.want != "" && !bytes.Equal(answer.Block, unhex(t, c.want)) {
			t.Errorf("%s: %X, want %s", name, answer.Block, c.want)
		}
		// Back under the incoming key it is the block that came, unless its fill is random.
		back, err := b.translate(hsm.TranslatePIN{Incoming: hsm.PINKey{Key: zone, Format: 0}, Outgoing: withMode(b, c.in), PAN: c.pan, Block: answer.Block})
		if err != nil || c.in.Format == 0 && !bytes.Equal(back.Block, unhex(t, c.block)) {
			t.Errorf("%s: back: %X, %v", name, back.Block, err)
		}
	}
}

// withMode returns the same key with a mode of use that lets it encipher.
func withMode(b *bench, k hsm.PINKey) hsm.PINKey {
	if k.KSN == (dukpt.KSN{}) {
		k.Key = b.Key("P0", "T", "E", zoneA)
	}
	return k
}

func TestVerifiesPublishedPINs(t *testing.T) {
	b := newBench(t)
	zone := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	block := unhex(t, "7F381DBF9F6906C4") // PIN 1234
	verify := func(r hsm.VerifyPIN) bool {
		t.Helper()
		r.Incoming, r.PAN, r.Block = zone, "5432101234567890", block
		answer, err := b.verifyPIN(r)
		if err != nil || answer.Custody != hsm.InModule {
			t.Fatalf("%v, custody %v", err, answer.Custody)
		}
		return answer.Verified
	}
	v2, v1 := b.Key("V2", "T", "V", tdesBDK), b.Key("V1", "T", "C", tdesBDK)
	if !verify(hsm.VerifyPIN{Verification: v2, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"}}) { // pv-023
		t.Error("the right PVV is refused")
	}
	if verify(hsm.VerifyPIN{Verification: v2, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "6777"}}) ||
		verify(hsm.VerifyPIN{Verification: v2, VisaPVV: &hsm.VisaPVV{KeyIndex: 2, PVV: "6776"}}) {
		t.Error("a wrong PVV verifies")
	}
	if !verify(hsm.VerifyPIN{Verification: v1, IBM3624: &hsm.IBM3624{Offset: "3207"}}) { // pv-001
		t.Error("the right offset is refused")
	}
	if verify(hsm.VerifyPIN{Verification: v1, IBM3624: &hsm.IBM3624{Offset: "3208"}}) {
		t.Error("a wrong offset verifies")
	}

	refused := func(name string, want fault.Reason, r hsm.VerifyPIN) {
		t.Helper()
		r.PAN, r.Block = "5432101234567890", block
		if _, err := b.verifyPIN(r); err == nil || fault.Of(err).Reason != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	pvv := &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"}
	iso1 := zone
	iso1.Format = 1
	refused("V1 key for a PVV", fault.KeyUsageMismatch, hsm.VerifyPIN{Incoming: zone, Verification: v1, VisaPVV: pvv})
	refused("V2 key for an offset", fault.KeyUsageMismatch, hsm.VerifyPIN{Incoming: zone, Verification: v2, IBM3624: &hsm.IBM3624{Offset: "3207"}})
	refused("mode of use G", fault.KeyUsageMismatch, hsm.VerifyPIN{Incoming: zone, Verification: b.Key("V2", "T", "G", tdesBDK), VisaPVV: pvv})
	refused("ISO-1", fault.TranslationForbidden, hsm.VerifyPIN{Incoming: iso1, Verification: v2, VisaPVV: pvv})
	refused("a PIN key as PVK", fault.KeyUsageMismatch, hsm.VerifyPIN{Incoming: zone, Verification: zone.Key, VisaPVV: pvv})
}

// TestRulesAndTheirOrder walks what the module refuses, with the reason that wins.
func TestRulesAndTheirOrder(t *testing.T) {
	b := newBench(t)
	in := func(change ...func(*hsm.Header)) hsm.PINKey {
		return hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA, change...), Format: 0}
	}
	out := func(change ...func(*hsm.Header)) hsm.PINKey {
		return hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB, change...), Format: 0}
	}
	dir := func(d string) func(*hsm.Header) { return func(h *hsm.Header) { h.Direction = d } }
	peers := func(p ...string) func(*hsm.Header) { return func(h *hsm.Header) { h.Peers = p } }
	formats := func(f ...hsm.Format) func(*hsm.Header) { return func(h *hsm.Header) { h.Formats = f } }
	with := func(k hsm.PINKey, change func(*hsm.PINKey)) hsm.PINKey { change(&k); return k }
	format := func(f hsm.Format) func(*hsm.PINKey) { return func(k *hsm.PINKey) { k.Format = f } }
	bdk := hsm.PINKey{Key: b.Key("B0", "T", "X", tdesBDK), KSN: ksn(t, "FFFF9876543210E00001"), Format: 0}
	bdkAES := hsm.PINKey{Key: b.Key("B0", "A", "X", aesBDK), KSN: ksn(t, "123456789012345600000001"), Format: 4}
	zoneAESIn := hsm.PINKey{Key: b.Key("P0", "A", "B", zoneAES), Format: 4}

	for name, c := range map[string]struct {
		in, out hsm.PINKey
		block   string
		want    fault.Reason // 0: allowed
	}{
		"allowed": {in(), out(), "7F381DBF9F6906C4", 0},

		"incoming key enciphers only":         {with(in(), func(k *hsm.PINKey) { k.Key = out().Key }), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"outgoing key deciphers only":         {in(), with(out(), func(k *hsm.PINKey) { k.Key = in().Key }), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"incoming key is for the way out":     {in(dir(hsm.DirectionOutgoing)), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"outgoing key is for the way in":      {in(), out(dir(hsm.DirectionIncoming)), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"a PVK deciphers no block":            {hsm.PINKey{Key: b.Key("V2", "T", "N", zoneA), Format: 0}, out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"a KEK deciphers no block":            {hsm.PINKey{Key: b.Key("K0", "T", "B", zoneA), Format: 0}, out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"BDK without KSN":                     {with(bdk, func(k *hsm.PINKey) { k.KSN = dukpt.KSN{} }), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"KSN for a key that is no BDK":        {with(in(), func(k *hsm.PINKey) { k.KSN = bdk.KSN }), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"AES KSN for a TDES BDK":              {with(bdk, func(k *hsm.PINKey) { k.KSN = bdkAES.KSN }), out(), "7F381DBF9F6906C4", fault.KSNInvalid},
		"TDES KSN for an AES BDK":             {with(bdkAES, func(k *hsm.PINKey) { k.KSN = bdk.KSN }), out(), "7F381DBF9F6906C4", fault.KSNInvalid},
		"AES working key of a TDES BDK":       {with(bdk, func(k *hsm.PINKey) { k.WorkingType = hsm.WorkingAES128 }), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"working key stronger than its BDK":   {with(bdkAES, func(k *hsm.PINKey) { k.WorkingType = hsm.WorkingAES256 }), out(), "A912150391AB65A67E52883D81CE2D15", fault.KeyUsageMismatch},
		"TDES key carries no ISO-4":           {with(in(), format(4)), out(), "A912150391AB65A67E52883D81CE2D15", fault.KeyUsageMismatch},
		"AES key carries no ISO-0":            {with(zoneAESIn, format(0)), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"TDES working key carries no ISO-4":   {with(bdkAES, func(k *hsm.PINKey) { k.WorkingType = hsm.WorkingTDES3 }), out(), "A912150391AB65A67E52883D81CE2D15", fault.KeyUsageMismatch},
		"format that the key does not carry":  {in(formats(3)), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"ISO-1 that the header does not name": {with(in(formats(0, 3)), format(1)), out(), "7F381DBF9F6906C4", fault.KeyUsageMismatch},
		"ISO-0 to ISO-1":                      {in(), with(out(), format(1)), "7F381DBF9F6906C4", fault.TranslationForbidden},
		"ISO-3 to ISO-1":                      {with(in(), format(3)), with(out(), format(1)), "7F381DBF9F6906C4", fault.TranslationForbidden},
		"ISO-4 to ISO-1":                      {zoneAESIn, with(out(), format(1)), "A912150391AB65A67E52883D81CE2D15", fault.TranslationForbidden},
		"from ISO-2":                          {with(in(), format(2)), out(), "7F381DBF9F6906C4", fault.TranslationForbidden},
		"to ISO-2":                            {in(), with(out(), format(2)), "7F381DBF9F6906C4", fault.TranslationForbidden},
		"peers that share no group":           {in(peers("acquirer")), out(peers("issuer")), "7F381DBF9F6906C4", fault.TranslationForbidden},
		"a key of no group":                   {in(peers()), out(), "7F381DBF9F6906C4", fault.TranslationForbidden},
		"peers that share one":                {in(peers("acquirer", "visa")), out(peers("visa")), "7F381DBF9F6906C4", 0},
		"a block that is none":                {in(), out(), "0000000000000000", fault.PINBlockInvalid},
		"usage wins over matrix and block":    {with(in(dir(hsm.DirectionOutgoing)), format(2)), out(), "0000000000000000", fault.KeyUsageMismatch},
		"matrix wins over block":              {in(), with(out(), format(1)), "0000000000000000", fault.TranslationForbidden},
		"a key whose validity has not begun":  {in(func(h *hsm.Header) { h.NotBefore = b.Now.Unix() + 1 }), out(), "7F381DBF9F6906C4", fault.KeyDisabled},
		"a key whose validity has ended":      {in(), out(func(h *hsm.Header) { h.NotAfter = b.Now.Unix() }), "7F381DBF9F6906C4", fault.KeyDisabled},
		"a key that is valid now":             {in(func(h *hsm.Header) { h.NotBefore, h.NotAfter = b.Now.Unix(), b.Now.Unix()+1 }), out(), "7F381DBF9F6906C4", 0},
		"a sealed key under another's name":   {with(in(), func(k *hsm.PINKey) { k.Key.Name = "other" }), out(), "7F381DBF9F6906C4", fault.KeySealInvalid},
	} {
		_, err := b.translate(hsm.TranslatePIN{Incoming: c.in, Outgoing: c.out, PAN: "5432101234567890", Block: unhex(t, c.block)})
		switch {
		case c.want == 0 && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != 0 && err == nil:
			t.Errorf("%s: allowed; want %v", name, c.want)
		case c.want != 0 && fault.Of(err).Reason != c.want:
			t.Errorf("%s: %v (%v), want %v", name, fault.Of(err).Reason, err, c.want)
		}
	}
}

// TestEveryAllowedTranslationThereAndBack moves a PIN through every pair of formats
// and kinds of key that the matrix allows, and back.
func TestEveryAllowedTranslationThereAndBack(t *testing.T) {
	b := newBench(t)
	const pan = "5432101234567890"
	tdes := func(f hsm.Format, value string) hsm.PINKey {
		return hsm.PINKey{Key: b.Key("P0", "T", "B", value), Format: f}
	}
	keys := []hsm.PINKey{
		tdes(0, zoneA), tdes(3, zoneA), tdes(0, zoneA+"0123456789ABCDEF"), tdes(3, zoneB),
		{Key: b.Key("P0", "A", "B", zoneAES), Format: 4},
		{Key: b.Key("P0", "A", "B", zoneAES+zoneB[:16]), Format: 4},
		{Key: b.Key("P0", "A", "B", zoneAES+zoneB), Format: 4},
		{Key: b.Key("B0", "T", "X", tdesBDK), KSN: ksn(t, "FFFF9876543210EFFC00"), Format: 3},
		{Key: b.Key("B0", "A", "X", aesBDK), KSN: ksn(t, "12345678901234560000FFFF"), Format: 4},
		{Key: b.Key("B0", "A", "X", aesBDK+zoneB), KSN: ksn(t, "123456789012345600000003"), WorkingType: hsm.WorkingAES256, Format: 4},
		{Key: b.Key("B0", "A", "X", aesBDK+zoneB), KSN: ksn(t, "123456789012345600000003"), WorkingType: hsm.WorkingAES192, Format: 4},
		{Key: b.Key("B0", "A", "X", aesBDK), KSN: ksn(t, "123456789012345600000002"), WorkingType: hsm.WorkingTDES2, Format: 0},
		{Key: b.Key("B0", "A", "X", aesBDK), KSN: ksn(t, "123456789012345600000002"), WorkingType: hsm.WorkingTDES3, Format: 3},
	}
	start := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	block := unhex(t, "7F381DBF9F6906C4")
	for i, from := range keys {
		first, err := b.translate(hsm.TranslatePIN{Incoming: start, Outgoing: from, PAN: pan, Block: block})
		if err != nil {
			t.Fatalf("key %d: %v", i, err)
		}
		for j, to := range keys {
			there, err := b.translate(hsm.TranslatePIN{Incoming: from, Outgoing: to, PAN: pan, Block: first.Block})
			if err != nil {
				t.Fatalf("%d to %d: %v", i, j, err)
			}
			back, err := b.translate(hsm.TranslatePIN{Incoming: to, Outgoing: start, PAN: pan, Block: there.Block})
			if err != nil || !bytes.Equal(back.Block, block) {
				t.Fatalf("%d to %d and back: %X, %v", i, j, back.Block, err)
			}
			if to.Format == 4 || to.Format == 3 {
				again, err := b.translate(hsm.TranslatePIN{Incoming: from, Outgoing: to, PAN: pan, Block: first.Block})
				if err != nil || bytes.Equal(again.Block, there.Block) {
					t.Fatalf("%d to %d: the fill is not random: %v", i, j, err)
				}
			}
		}
	}
}

// TestPANsThatWouldGivePINDigitsAway: with a rule that leaves out account digits which
// the block combines with PIN digits, a changed PAN would change the PIN and nothing
// else.
func TestPANsThatWouldGivePINDigitsAway(t *testing.T) {
	b := newBench(t)
	zone := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	zone4 := hsm.PINKey{Key: b.Key("P0", "A", "B", zoneAES), Format: 4}
	block := unhex(t, "7F381DBF9F6906C4") // PIN 1234, PAN 5432101234567890: account digits from the fourth on
	const pan = "5432101234567890"
	inAES, err := b.translate(hsm.TranslatePIN{Incoming: zone, Outgoing: zone4, PAN: pan, Block: block})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		start, length uint8
		allow         bool
		want          fault.Reason // 0: carried out
	}{
		{0, 12, false, 0}, {3, 2, false, 0}, {4, 12, false, fault.KeyUsageMismatch}, {0, 4, false, fault.KeyUsageMismatch}, {4, 12, true, 0},
	} {
		pvk := b.Key("V1", "T", "V", tdesBDK, func(h *hsm.Header) {
			h.IBM3624 = &hsm.IBM3624Rule{DecimalizationTable: "0123456789012345", Start: c.start, Length: c.length, Pad: "F", AllowUnboundPAN: c.allow}
		})
		offset := &hsm.IBM3624{Offset: "0000"}
		_, err := b.verifyPIN(hsm.VerifyPIN{Incoming: zone, Verification: pvk, PAN: pan, Block: block, IBM3624: offset})
		if c.want == 0 && err != nil || c.want != 0 && (err == nil || fault.Of(err).Reason != c.want) {
			t.Errorf("rule (%d, %d): %v", c.start, c.length, err)
		}
		if _, err := b.verifyPIN(hsm.VerifyPIN{Incoming: zone4, Verification: pvk, PAN: pan, Block: inAES.Block, IBM3624: offset}); err != nil {
			t.Errorf("rule (%d, %d) in format 4: %v", c.start, c.length, err)
		}
	}
}

// TestChangeShowsNoDigits: with another PAN label a block of format 0 holds other PIN
// digits. Which labels make one that is not decimal would tell the digit, so a change says
// nothing of the new PIN before the current one has been found right, for a try.
func TestChangeShowsNoDigits(t *testing.T) {
	b := newBench(t)
	one := velocity.Limit{Minute: 1, Hour: 1, Day: 1}
	b.limited(velocity.Limits{Verification: one})
	zone := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	v2, v1 := b.Key("V2", "T", "C", tdesBDK), b.Key("V1", "T", "C", tdesBDK)
	block := unhex(t, "7F381DBF9F6906C4") // PIN 1234 for 5432101234567890, whose second account digit meets the 4
	labels := make([]string, 10)
	for d := range labels {
		labels[d] = fmt.Sprintf("5432%d01234567890", d)
	}
	change := func(pan string, r hsm.ChangePIN) (hsm.ChangedPIN, error) {
		r.Incoming, r.NewIncoming, r.PAN, r.Current, r.New = zone, zone, pan, block, block
		op := pinops.Operation{Change: &r}
		b.engine.Run(&op)
		return op.Changed, op.Err
	}
	for name, r := range map[string]hsm.ChangePIN{
		"PVV":    {Verification: v2, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "0000"}},
		"offset": {Verification: v1, IBM3624: &hsm.IBM3624{Offset: "0000"}},
	} {
		for _, pan := range labels {
			if a, err := change(pan, r); err != nil || a.Verified || a.Datum != "" {
				t.Errorf("%s, %s: %+v, %v; want a wrong PIN", name, pan, a, err)
			}
			if a, err := change(pan, r); fault.Of(err).Reason != fault.RateLimited {
				t.Errorf("%s, %s, over the limit: %+v, %v", name, pan, a, err)
			}
		}
	}
}

// TestChangeByOffsetIsOptedInto: mode of use C is not enough.
func TestChangeByOffsetIsOptedInto(t *testing.T) {
	b := newBench(t)
	zone := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	block := unhex(t, "7F381DBF9F6906C4")
	for allowed, want := range map[bool]fault.Reason{true: 0, false: fault.KeyUsageMismatch} {
		v1 := b.Key("V1", "T", "C", tdesBDK, func(h *hsm.Header) { h.AllowChange = allowed })
		op := pinops.Operation{Change: &hsm.ChangePIN{Incoming: zone, NewIncoming: zone, Verification: v1, PAN: "5432101234567890",
			Current: block, New: block, IBM3624: &hsm.IBM3624{Offset: "3207"}}}
		b.engine.Run(&op)
		switch {
		case want == 0 && (op.Err != nil || op.Changed.Datum != "3207"):
			t.Errorf("allowed: %+v, %v", op.Changed, op.Err)
		case want != 0 && (fault.Of(op.Err).Reason != want || op.Changed != hsm.ChangedPIN{}):
			t.Errorf("not allowed: %+v, %v", op.Changed, op.Err)
		}
		// Verifying and generating are what they were.
		verify := pinops.Operation{Verify: &hsm.VerifyPIN{Incoming: zone, Verification: v1, PAN: "5432101234567890", Block: block, IBM3624: &hsm.IBM3624{Offset: "3207"}}}
		generate := pinops.Operation{Generate: &hsm.GeneratePIN{Outgoing: zone, Generation: v1, PAN: "5432101234567890", Length: 4, IBM3624: &hsm.IBM3624{}}}
		b.engine.Run(&verify, &generate)
		if verify.Err != nil || !verify.Verified.Verified || generate.Err != nil {
			t.Errorf("verify: %+v, %v; generate: %v", verify.Verified, verify.Err, generate.Err)
		}
	}
}

// TestChangeByPVV: a new PIN in ISO format 3 is opted into, and comes under a key that
// shares a peer group with the verification key.
func TestChangeByPVV(t *testing.T) {
	b := newBench(t)
	const pan = "5432101234567890"
	zone := func(f hsm.Format, peer string) hsm.PINKey {
		return hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA, func(h *hsm.Header) { h.Peers = []string{peer} }), Format: f}
	}
	block := unhex(t, "7F381DBF9F6906C4")
	loose := pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: zone(0, "a"), Outgoing: zone(3, "a"), PAN: pan, Block: block}}
	if b.engine.Run(&loose); loose.Err != nil {
		t.Fatal(loose.Err)
	}
	for _, c := range []struct {
		allowed bool
		format  hsm.Format
		peer    string
		block   []byte
		want    fault.Reason
	}{
		{false, 0, "a", block, 0},
		{false, 3, "a", loose.Translated.Block, fault.KeyUsageMismatch},
		{true, 3, "a", loose.Translated.Block, 0},
		{true, 0, "b", block, fault.TranslationForbidden},
	} {
		v2 := b.Key("V2", "T", "C", tdesBDK, func(h *hsm.Header) { h.AllowChange, h.Peers = c.allowed, []string{"a"} })
		right := pinops.Operation{Generate: &hsm.GeneratePIN{Outgoing: zone(0, "a"), Generation: v2, PAN: pan, Length: 4, VisaPVV: &hsm.VisaPVV{KeyIndex: 1}}}
		if b.engine.Run(&right); right.Err != nil {
			t.Fatal(right.Err)
		}
		op := pinops.Operation{Change: &hsm.ChangePIN{Incoming: zone(0, "a"), NewIncoming: zone(c.format, c.peer), Verification: v2, PAN: pan,
			Current: right.Generated.Block, New: c.block, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: right.Generated.Datum}}}
		b.engine.Run(&op)
		switch {
		case c.want == 0 && (op.Err != nil || !op.Changed.Verified || len(op.Changed.Datum) != 4):
			t.Errorf("%+v: %+v, %v", c, op.Changed, op.Err)
		case c.want != 0 && (fault.Of(op.Err).Reason != c.want || op.Changed != hsm.ChangedPIN{}):
			t.Errorf("%+v: %+v, %v", c, op.Changed, op.Err)
		}
	}
}

// TestNewPINThatIsNotDecimal: it becomes no value, whatever the method, and costs the try
// of the current PIN.
func TestNewPINThatIsNotDecimal(t *testing.T) {
	b := newBench(t)
	one := velocity.Limit{Minute: 1, Hour: 1, Day: 1}
	b.limited(velocity.Limits{Verification: one})
	const pan = "5432101234567890"
	zone := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	c, err := des.NewTripleDESCipher(unhex(t, zoneA+zoneA[:16]))
	if err != nil {
		t.Fatal(err)
	}
	odd := make([]byte, 8)
	c.Encrypt(odd, unhex(t, "04121BFEDCBA9876")) // PIN 123A
	for name, r := range map[string]hsm.ChangePIN{
		"PVV":    {Verification: b.Key("V2", "T", "C", tdesBDK), VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"}},
		"offset": {Verification: b.Key("V1", "T", "C", tdesBDK), IBM3624: &hsm.IBM3624{Offset: "3207"}},
	} {
		r.Incoming, r.NewIncoming, r.PAN, r.Current, r.New = zone, zone, pan, unhex(t, "7F381DBF9F6906C4"), odd
		for _, want := range []fault.Reason{fault.PINBlockInvalid, fault.RateLimited} {
			op := pinops.Operation{Change: &r}
			if b.engine.Run(&op); fault.Of(op.Err).Reason != want || op.Changed != (hsm.ChangedPIN{}) {
				t.Errorf("%s: %+v, %v; want %v", name, op.Changed, op.Err, want)
			}
		}
	}
}

func TestConcurrentOperationsDoNotMix(t *testing.T) {
	b := newBench(t)
	in := hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA), Format: 0}
	out := hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB), Format: 0}
	dk := hsm.PINKey{Key: b.Key("B0", "T", "X", tdesBDK), KSN: ksn(t, "FFFF9876543210E00001"), Format: 0}
	want := unhex(t, "06C0408B869B2CEB")
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for range 50 {
				a, err := b.translate(hsm.TranslatePIN{Incoming: in, Outgoing: out, PAN: "5432101234567890", Block: []byte{0x7F, 0x38, 0x1D, 0xBF, 0x9F, 0x69, 0x06, 0xC4}})
				if err != nil || !bytes.Equal(a.Block, want) {
					t.Errorf("%X, %v", a.Block, err)
					return
				}
				if _, err := b.translate(hsm.TranslatePIN{Incoming: dk, Outgoing: out, PAN: "4012345678909", Block: []byte{0x1B, 0x9C, 0x18, 0x45, 0xEB, 0x99, 0x3A, 0x7A}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// TestStaleHandlesAreMadeAnew takes the keeper's objects away between operations.
func TestStaleHandlesAreMadeAnew(t *testing.T) {
	b := newBench(t)
	r := hsm.TranslatePIN{
		Incoming: hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA), Format: 0},
		Outgoing: hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB), Format: 0},
		PAN:      "5432101234567890", Block: unhex(t, "7F381DBF9F6906C4"),
	}
	for range 3 {
		if _, err := b.translate(r); err != nil {
			t.Fatal(err)
		}
		b.Renew()
	}
}

func BenchmarkTranslate(bm *testing.B) {
	b := newBench(bm)
	out := hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB), Format: 0}
	for name, r := range map[string]hsm.TranslatePIN{
		"zone": {Incoming: hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA), Format: 0}, PAN: "5432101234567890", Block: unhex(bm, "7F381DBF9F6906C4")},
		"dukpt-tdes": {Incoming: hsm.PINKey{Key: b.Key("B0", "T", "X", tdesBDK), KSN: ksn(bm, "FFFF9876543210E00001"), Format: 0},
			PAN: "4012345678909", Block: unhex(bm, "1B9C1845EB993A7A")},
		"dukpt-aes": {Incoming: hsm.PINKey{Key: b.Key("B0", "A", "X", aesBDK), KSN: ksn(bm, "123456789012345600000001"), Format: 4},
			PAN: "4111111111111111", Block: unhex(bm, "A912150391AB65A67E52883D81CE2D15")},
	} {
		r.Outgoing = out
		bm.Run(name, func(bm *testing.B) {
			bm.ReportAllocs()
			for bm.Loop() {
				if _, err := b.translate(r); err != nil {
					bm.Fatal(err)
				}
			}
		})
	}
}
