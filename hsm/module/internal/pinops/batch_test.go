package pinops_test

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/velocity"
	"keyd/pinblock"
)

// everything is one operation of each kind, with a refusal of each kind among them.
func everything(b *bench) (ops []*pinops.Operation) {
	in := hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA), Format: 0}
	out := hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB), Format: 0}
	aesIn, aesOut := hsm.PINKey{Key: b.Key("P0", "A", "B", zoneAES), Format: 4}, hsm.PINKey{Key: b.Key("P0", "A", "B", zoneAES), Format: 4}
	bdk := hsm.PINKey{Key: b.Key("B0", "T", "X", tdesBDK), KSN: ksn(b, "FFFF9876543210E00001"), Format: 0}
	bdkAES := hsm.PINKey{Key: b.Key("B0", "A", "X", aesBDK), KSN: ksn(b, "123456789012345600000001"), Format: 4}
	v2, v1 := b.Key("V2", "T", "V", tdesBDK), b.Key("V1", "T", "C", tdesBDK)
	block, blockT, blockA := unhex(b, "7F381DBF9F6906C4"), unhex(b, "1B9C1845EB993A7A"), unhex(b, "A912150391AB65A67E52883D81CE2D15")
	wrong := unhex(b, "0000000000000000")
	translate := func(in, out hsm.PINKey, pan string, block []byte) {
		ops = append(ops, &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: in, Outgoing: out, PAN: pan, Block: block}})
	}
	verify := func(key hsm.Key, block []byte, pvv *hsm.VisaPVV, offset *hsm.IBM3624) {
		ops = append(ops, &pinops.Operation{Verify: &hsm.VerifyPIN{Incoming: in, Verification: key, PAN: "5432101234567890", Block: block, VisaPVV: pvv, IBM3624: offset}})
	}
	translate(in, out, "5432101234567890", block)
	translate(bdk, out, "4012345678909", blockT)
	translate(bdkAES, out, "4111111111111111", blockA)
	translate(in, aesOut, "5432101234567890", block)
	translate(in, bdk, "5432101234567890", block)
	translate(in, bdkAES, "5432101234567890", block)
	translate(bdkAES, aesOut, "4111111111111111", blockA)
	translate(aesIn, out, "5432101234567890", blockA)              // deciphers to nothing
	translate(in, out, "5432101234567890", wrong)                  // no block
	translate(bdk, out, "4012345678909", wrong)                    // likewise, under DUKPT
	translate(out, in, "5432101234567890", block)                  // the wrong way round
	translate(in, out, "", block)                                  // no PAN
	translate(in, hsm.PINKey{Key: out.Key, Format: 1}, "1", block) // the matrix
	translate(hsm.PINKey{Key: hsm.Key{Name: "x", Sealed: in.Key.Sealed}, Format: 0}, out, "5432101234567890", block)
	verify(v2, block, &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"}, nil)
	verify(v2, block, &hsm.VisaPVV{KeyIndex: 1, PVV: "6777"}, nil)
	verify(v1, block, nil, &hsm.IBM3624{Offset: "3207"})
	verify(v1, block, nil, &hsm.IBM3624{Offset: "3208"})
	verify(v1, block, &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"}, nil) // a V1 key for a PVV
	verify(v2, wrong, &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"}, nil)
	generation, visa := b.Key("V2", "T", "C", tdesBDK), &hsm.VisaPVV{KeyIndex: 1}
	generate := func(out hsm.PINKey, key hsm.Key, demands hsm.Demands) {
		ops = append(ops, &pinops.Operation{Generate: &hsm.GeneratePIN{Outgoing: out, Generation: key, PAN: "5432101234567890", Length: 6, VisaPVV: visa, Demands: demands}})
	}
	generate(out, generation, hsm.Demands{})
	generate(bdkAES, generation, hsm.Demands{})
	generate(out, v2, hsm.Demands{})        // a key that verifies only
	generate(in, generation, hsm.Demands{}) // a key that deciphers only
	generate(out, generation, hsm.Demands{TokenCustody: true})
	generate(out, generation, hsm.Demands{KSNRefused: true, TokenCustody: true})
	change := func(newIn hsm.PINKey, key hsm.Key, pvv string, current, next []byte) {
		ops = append(ops, &pinops.Operation{Change: &hsm.ChangePIN{Incoming: in, NewIncoming: newIn, Verification: key, PAN: "5432101234567890",
			Current: current, New: next, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: pvv}}})
	}
	change(in, generation, "6776", block, block)
	change(in, generation, "6777", block, block)
	change(in, generation, "6776", block, wrong)
	change(in, generation, "6776", wrong, block)
	change(out, generation, "6776", block, block) // a new key that enciphers only
	change(out, generation, "6776", wrong, block) // the same comes before a block
	change(in, v2, "6776", block, block)
	return ops
}

// outcome is what is the same whenever an operation is carried out: the reason of a
// refusal, an answer, or for a random fill that there was one.
func outcome(op *pinops.Operation) string {
	switch {
	case op.Err != nil && (op.Translated.Block != nil || op.Generated.Block != nil || op.Changed != hsm.ChangedPIN{} || op.Verified != hsm.VerifiedPIN{}):
		return "an error with an answer"
	case op.Err != nil:
		return fault.Of(op.Err).Reason.String()
	case op.Verify != nil:
		return fmt.Sprint(op.Verified)
	case op.Change != nil:
		return fmt.Sprint(op.Changed)
	case op.Generate != nil:
		return fmt.Sprint(len(op.Generated.Block), len(op.Generated.Datum), op.Generated.Custody)
	case op.Translate.Outgoing.Format == hsm.Format4:
		return fmt.Sprint(len(op.Translated.Block), op.Translated.CheckValue, op.Translated.Custody)
	}
	return fmt.Sprintf("%X %s %v", op.Translated.Block, op.Translated.CheckValue, op.Translated.Custody)
}

// TestBatchIsTheSameAsOneByOne mixes operations of every kind, in random order and
// number, some of them twice, and compares each with its outcome by itself.
func TestBatchIsTheSameAsOneByOne(t *testing.T) {
	b := newBench(t)
	ops := everything(b)
	want := make([]string, len(ops))
	reasons := map[string]bool{}
	for i, op := range ops {
		b.engine.Run(op)
		want[i] = outcome(op)
		reasons[want[i]] = true
	}
	for _, r := range []string{"PIN_BLOCK_INVALID", "KEY_USAGE_MISMATCH", "REQUEST_INVALID", "TRANSLATION_FORBIDDEN", "KEY_SEAL_INVALID", "CUSTODY_UNAVAILABLE", "KSN_REPLAYED",
		"{true CUSTODY_MODULE}", "{false CUSTODY_MODULE}", "{true 6776 CUSTODY_MODULE}", "{false  CUSTODY_MODULE}", "8 4 CUSTODY_MODULE"} {
		if !reasons[r] {
			t.Errorf("no operation ended with %s: the test shows less than it should", r)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		n := 1 + random.IntN(pinops.MaxBatch)
		var batch []*pinops.Operation
		var kind []int
		for lanes := 0; lanes < n; {
			k := random.IntN(len(ops))
			o := ops[k]
			batch, kind = append(batch, &pinops.Operation{Translate: o.Translate, Verify: o.Verify, Generate: o.Generate, Change: o.Change}), append(kind, k)
			lanes += o.Lanes()
		}
		b.engine.Run(batch...)
		for i, op := range batch {
			if got := outcome(op); got != want[kind[i]] {
				t.Fatalf("round %d, %d of %d (kind %d): %s, want %s (%v)", round, i, n, kind[i], got, want[kind[i]], op.Err)
			}
		}
	}
}

// TestBatchSharesTokenCalls: a full batch of TDES DUKPT translations to one key takes
// three calls for the blocks, like a single one.
func TestBatchSharesTokenCalls(t *testing.T) {
	b := newBench(t)
	bdk := hsm.PINKey{Key: b.Key("B0", "T", "X", tdesBDK), KSN: ksn(t, "FFFF9876543210E00001"), Format: 0}
	out := hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB), Format: 0}
	run := func(n int) (calls, blocks uint64) {
		before := b.calls("C_Encrypt CKM_DES3_ECB")
		batch := make([]*pinops.Operation, n)
		for i := range batch {
			batch[i] = &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: bdk, Outgoing: out, PAN: "4012345678909", Block: unhex(t, "1B9C1845EB993A7A")}}
		}
		b.engine.Run(batch...)
		for _, op := range batch {
			if op.Err != nil {
				t.Fatal(op.Err)
			}
		}
		after := b.calls("C_Encrypt CKM_DES3_ECB")
		return after[0] - before[0], after[1] - before[1]
	}
	run(1) // unseals
	for _, n := range []int{1, 7, pinops.MaxBatch} {
		if calls, blocks := run(n); calls != 3 || blocks != uint64(3*n) {
			t.Errorf("%d operations: %d calls with %d blocks, want 3 with %d", n, calls, blocks, 3*n)
		}
	}
}

// calls returns how often the token was called by a name, and with how many blocks.
func (b *bench) calls(name string) [2]uint64 {
	for _, c := range b.Token.Calls() {
		if c.Name == name {
			return [2]uint64{c.Count, c.Blocks}
		}
	}
	b.Fatalf("the token does not count %s", name)
	return [2]uint64{}
}

// TestDerivedKeysAreKeptAndBounded counts through a terminal's transactions: each is
// right, most derivation keys are found again, and no more are kept than the bound.
func TestDerivedKeysAreKeptAndBounded(t *testing.T) {
	const bound, transactions = 16, 300
	b := newBench(t)
	keys := b.KeysKeeping(bound)
	engine := pinops.NewEngine(keys, nil)
	bdk := b.Key("B0", "A", "X", aesBDK)
	out := hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB), Format: 0}
	run := func(counter uint32) {
		t.Helper()
		raw := binary.BigEndian.AppendUint32(unhex(t, "1234567890123456"), counter)
		k, err := dukpt.ParseKSN(raw)
		if err != nil {
			t.Fatal(err)
		}
		op := &pinops.Operation{Translate: &hsm.TranslatePIN{
			Incoming: hsm.PINKey{Key: bdk, KSN: k, Format: 4}, Outgoing: out, PAN: "4111111111111111", Block: terminalBlock(t, k, "4111111111111111"),
		}}
		engine.Run(op)
		if op.Err != nil {
			t.Fatalf("counter %d: %v", counter, op.Err)
		}
		if keys.Derived() > bound {
			t.Fatalf("counter %d: %d derived keys are kept", counter, keys.Derived())
		}
	}
	before := b.calls("C_DeriveKey")[0]
	for c := uint32(1); c <= transactions; c++ {
		run(c)
	}
	// Each transaction needs a derivation key of its own and a working key; from the BDK
	// it would be six on average.
	if n := b.calls("C_DeriveKey")[0] - before; n > 2*transactions+transactions/10 {
		t.Errorf("%d derivations for %d transactions of one terminal", n, transactions)
	}
	// Derivation keys of many counters crowd each other out, and are made again.
	random := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		run(1 + random.Uint32N(1<<16-1))
	}
	b.Renew()
	run(transactions + 1)
}

// terminalBlock is PIN 1234 in format 4 as a terminal under aesBDK makes it.
func terminalBlock(t testing.TB, k dukpt.KSN, pan string) []byte {
	t.Helper()
	path, err := dukpt.NewPath(k, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 16)
	if err := software.AESDerive(key, unhex(t, aesBDK), path); err != nil {
		t.Fatal(err)
	}
	account, err := pinblock.ParsePAN(pan)
	if err != nil {
		t.Fatal(err)
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	block := unhex(t, "441234AAAAAAAAAA0011223344556677")
	c.Encrypt(block, block)
	if err := account.XORField4(block); err != nil {
		t.Fatal(err)
	}
	c.Encrypt(block, block)
	return block
}

// limited gives the engine a table of tries.
func (b *bench) limited(l velocity.Limits) *velocity.Table {
	b.Helper()
	f, err := velocity.Create(filepath.Join(b.TempDir(), "velocity"), 1<<10)
	if err != nil {
		b.Fatal(err)
	}
	clock, err := velocity.SystemClock()
	if err != nil {
		b.Fatal(err)
	}
	table, err := velocity.Open(int(f.Fd()), [32]byte{1}, [16]byte{1}, l, clock)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, end := range []func() error{table.Close, f.Close} {
			if err := end(); err != nil {
				b.Error(err)
			}
		}
	})
	b.tries = tries.New(table)
	b.engine = pinops.NewEngine(b.Keys, b.tries)
	return table
}

// TestTriesInABatchAreCounted: a batch gets no try for nothing, and a refusal that comes
// before the comparison costs none.
func TestTriesInABatchAreCounted(t *testing.T) {
	b := newBench(t)
	b.limited(velocity.Limits{Verification: velocity.Limit{Minute: 10, Hour: 10, Day: 10}, Translation: velocity.Limit{Minute: 5, Hour: 5, Day: 5}})
	in := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	v2, v1 := b.Key("V2", "T", "V", tdesBDK), b.Key("V1", "T", "V", tdesBDK)
	block := unhex(t, "7F381DBF9F6906C4")
	run := func(n int, make func() *pinops.Operation) map[string]int {
		batch, got := []*pinops.Operation{}, map[string]int{}
		for range n {
			batch = append(batch, make())
		}
		b.engine.Run(batch...)
		for _, op := range batch {
			if op.Err != nil {
				got[fault.Of(op.Err).Reason.String()]++
			} else {
				got["OK"]++
			}
		}
		return got
	}
	verify := func(key hsm.Key, block []byte, pvv *hsm.VisaPVV, offset *hsm.IBM3624) func() *pinops.Operation {
		return func() *pinops.Operation {
			return &pinops.Operation{Verify: &hsm.VerifyPIN{Incoming: in, Verification: key, PAN: "5432101234567890", Block: block, VisaPVV: pvv, IBM3624: offset}}
		}
	}
	expect := func(what string, got map[string]int, want string) {
		t.Helper()
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", what, got, want)
		}
	}
	pvv, offset := &hsm.VisaPVV{KeyIndex: 1, PVV: "0000"}, &hsm.IBM3624{Offset: "0000"}
	expect("no block", run(20, verify(v2, make([]byte, 8), pvv, nil)), "map[PIN_BLOCK_INVALID:20]")
	expect("a key that may not", run(20, verify(v1, block, pvv, nil)), "map[KEY_USAGE_MISMATCH:20]")
	expect("PVV", run(32, verify(v2, block, pvv, nil)), "map[OK:10 RATE_LIMITED:22]")
	expect("another key", run(32, verify(v1, block, nil, offset)), "map[OK:10 RATE_LIMITED:22]")
	expect("translations", run(32, func() *pinops.Operation {
		return &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: in, Outgoing: in, PAN: "5432101234567890", Block: block}}
	}), "map[OK:5 RATE_LIMITED:27]")
	iso1 := in
	iso1.Format = 1
	one := unhex(t, "141234FFFFFFFFFF")
	sealedBlock := encryptZoneA(t, one)
	expect("from format 1 to format 1 no account is known", run(32, func() *pinops.Operation {
		return &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: iso1, Outgoing: iso1, Block: sealedBlock}}
	}), "map[OK:32]")
}

// encryptZoneA enciphers a block under zoneA.
func encryptZoneA(t testing.TB, clear []byte) []byte {
	t.Helper()
	var key software.TDESKey
	if err := key.Set(unhex(t, zoneA)); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 8)
	key.Encrypt(out, clear)
	return out
}

// TestTriesAreResetWithAPermitOnly resets what a permit was given for, once.
func TestTriesAreResetWithAPermitOnly(t *testing.T) {
	b := newBench(t)
	one := velocity.Limit{Minute: 1, Hour: 1, Day: 1}
	table := b.limited(velocity.Limits{Verification: one, Translation: one})
	const pan = "5432101234567890"
	in := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	v2, v1 := b.Key("V2", "T", "V", tdesBDK), b.Key("V1", "T", "V", tdesBDK)
	try := map[string]func() error{
		"translation": func() error {
			_, err := b.translate(hsm.TranslatePIN{Incoming: in, Outgoing: in, PAN: pan, Block: unhex(t, "7F381DBF9F6906C4")})
			return err
		},
		"PVV": func() error {
			_, err := b.verifyPIN(hsm.VerifyPIN{Incoming: in, Verification: v2, PAN: pan, Block: unhex(t, "7F381DBF9F6906C4"), VisaPVV: &hsm.VisaPVV{PVV: "0000"}})
			return err
		},
		"offset": func() error {
			_, err := b.verifyPIN(hsm.VerifyPIN{Incoming: in, Verification: v1, PAN: pan, Block: unhex(t, "7F381DBF9F6906C4"), IBM3624: &hsm.IBM3624{Offset: "0000"}})
			return err
		},
	}
	account, err := pinblock.ParsePAN(pan)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*hsm.Key{"translation": nil, "PVV": &v2, "offset": &v1} {
		kind := velocity.Verification
		if key == nil {
			kind = velocity.Translation
		}
		missing := func(what string) {
			t.Helper()
			if err := b.tries.Reset(b.Keys, key, pan); fault.Of(err).Reason != fault.PermitMissing {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		if err := try[name](); err != nil {
			t.Fatal(err)
		}
		if err := try[name](); fault.Of(err).Reason != fault.RateLimited {
			t.Errorf("%s: beyond the limit: %v", name, err)
		}
		missing("without a permit")
		if err := table.Permit(kind, tries.PermitSubject(account), time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := b.tries.Reset(b.Keys, key, "4111111111111111"); fault.Of(err).Reason != fault.PermitMissing {
			t.Errorf("%s: another account: %v", name, err)
		}
		if err := b.tries.Reset(b.Keys, key, pan); err != nil {
			t.Errorf("%s: with a permit: %v", name, err)
		}
		missing("with a permit that was used")
		if err := try[name](); err != nil {
			t.Errorf("%s: after the reset: %v", name, err)
		}
	}
	zone := in.Key
	if err := table.Permit(velocity.Verification, tries.PermitSubject(account), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := b.tries.Reset(b.Keys, &zone, pan); fault.Of(err).Reason != fault.KeyUsageMismatch {
		t.Errorf("a zone key: %v", err)
	}
	if err := b.tries.Reset(b.Keys, &v2, pan); err != nil {
		t.Errorf("a refusal used the permit up: %v", err)
	}
}

// TestFalseLabelsCountForTheSameAccount: PIN digits may be any nibble, so that with other
// account digits where the PIN is, the same block comes out of a translation.
func TestFalseLabelsCountForTheSameAccount(t *testing.T) {
	b := newBench(t)
	b.limited(velocity.Limits{Translation: velocity.Limit{Minute: 3, Hour: 3, Day: 3}})
	in := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	out := hsm.PINKey{Key: b.Key("P0", "T", "E", zoneB), Format: 0}
	answers, blocks := 0, map[string]bool{}
	for label := range 100 {
		answer, err := b.translate(hsm.TranslatePIN{Incoming: in, Outgoing: out, PAN: fmt.Sprintf("543%02d01234567890", label), Block: unhex(t, "7F381DBF9F6906C4")})
		switch {
		case err == nil:
			answers++
			blocks[string(answer.Block)] = true
		case fault.Of(err).Reason != fault.RateLimited:
			t.Fatal(err)
		}
	}
	if answers != 3 || len(blocks) != 1 {
		t.Errorf("%d translations of one block under false labels, with %d different answers; the limit is 3", answers, len(blocks))
	}
}
