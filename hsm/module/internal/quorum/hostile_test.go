package quorum_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/token"
)

// Whatever a front hands in, in part or not at all, is refused: nothing panics, and nothing is
// returned.
func TestHostileShapes(t *testing.T) {
	b := newBench(t)
	whole := ready(b)
	export := newShelf(t, "a32")
	export.load(spec("key", "P0", "T", 16, "B", "E"), random(16))
	leaving := export.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Export, Target: ref("key"), Under: ref("a32"), Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}})
	leaving.approve("alice", "bob")
	huge := bytes.Repeat([]byte("9"), 1<<20)
	for _, r := range []*run{whole, leaving} {
		all := func(papers *ceremony.Proceedings, in quorum.Inputs) {
			t.Helper()
			err := r.token.Do(func(s *token.Session) error {
				if check, err := r.engine.Check(s, papers, in); err == nil || check != "" {
					return fmt.Errorf("Check: %q, %w", check, err)
				}
				if out, err := r.engine.CarryOut(s, papers, in); err == nil || out != nil {
					return fmt.Errorf("CarryOut: %v, %w", out, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		all(nil, r.in)
		all(&ceremony.Proceedings{}, r.in)
		for _, text := range []string{"", "null", "{}", "[]", "0", `""`, `{"officer":"alice"}`, string(huge), strings.Repeat("[", 10_000)} {
			for i := range 3 {
				papers := r.papers
				papers.Submissions, papers.Approvals = append([]ceremony.Submission(nil), papers.Submissions...), append([]ceremony.Signed(nil), papers.Approvals...)
				switch i {
				case 0:
					papers.Opening.Document = []byte(text)
				case 1:
					papers.Definition = []byte(text)
				case 2:
					papers.Approvals[0].Document = []byte(text)
				}
				all(&papers, r.in)
			}
		}
		// The same, signed by those who may sign: what a dishonest officer could send.
		for i, s := range []*ceremony.Statement{
			{Action: ceremony.Submit}, {Action: ceremony.Submit, Index: 1 << 40}, {Action: ceremony.Submit, Index: -1 << 40, CheckValue: "000000", Component: ceremony.Digest(nil)},
			{Action: ceremony.Submit, Index: 1, CheckValue: "000000", Component: "short"}, {Action: ceremony.Submit, Index: 1, CheckValue: "000000", Component: ceremony.Digest(nil)},
		} {
			papers := r.papers
			papers.Submissions = []ceremony.Submission{{Statement: r.statement("alice", s)}}
			papers.Approvals = nil
			all(&papers, r.in)
			papers.Submissions[0].Sealed = huge[:ceremony.MaxSealedComponent+i]
			all(&papers, r.in)
			papers.Submissions[0].Sealed = []byte{}
			all(&papers, r.in)
		}
		for _, a := range []*ceremony.Statement{{Action: ceremony.Approve}, {Action: ceremony.Approve, Components: make([]string, 500)}, {Action: ceremony.Approve, CheckValue: strings.Repeat("A", 1000)}} {
			papers := r.papers
			papers.Approvals = []ceremony.Signed{papers.Approvals[0], r.statement("bob", a)}
			if r == leaving && a.Components == nil && a.CheckValue == "" {
				continue // which is as it should be
			}
			all(&papers, r.in)
		}
		papers := r.papers
		for range 100_000 {
			papers.Submissions = append(papers.Submissions, ceremony.Submission{})
			papers.Approvals = append(papers.Approvals, ceremony.Signed{})
		}
		all(&papers, r.in)
	}
	// Keys that are none.
	for _, k := range []*hsm.Key{nil, {}, {Name: "a32"}, {Name: "key", Sealed: huge}, {Name: "key", Sealed: []byte("kSK1")}} {
		for _, in := range []quorum.Inputs{{Under: k}, {Target: k}, {Previous: k}, {Under: k, Target: k, Previous: k}} {
			r := *leaving
			r.in = in
			if _, err := r.carryOut(); err == nil {
				t.Errorf("%+v was taken", in)
			}
		}
	}
	// Calling off, and documents that are no epoch.
	for _, papers := range []*ceremony.Proceedings{nil, {}, {Opening: ceremony.Signed{Document: huge}}} {
		if err := b.token.Do(func(s *token.Session) error { _, err := b.engine.Abort(s, papers, ceremony.Signed{}); return err }); err == nil {
			t.Error("called off")
		}
	}
	for _, epoch := range [][]byte{nil, huge, b.epoch[:len(b.epoch)-1], make([]byte, 16), append(bytes.Clone(b.epoch), 0)} {
		refused(t, b.commitEpoch(epoch), fault.EpochInvalid)
	}
	_, err := whole.carryOut()
	b.must(err) // the papers themselves are as good as they were
}

// Every definition that Validate lets pass, and that is no longer one after a change of a
// field, is refused before anything is looked up.
func TestHostileDefinitions(t *testing.T) {
	b := newBench(t)
	for _, text := range []string{"", "null", "[]", "{}", `{"kind":"load","valid_for":3600}`, `{"kind":"export","valid_for":3600}`, `{"kind":"init","valid_for":3600}`, `{"kind":"masters","valid_for":3600}`, `{"kind":"change","valid_for":3600}`} {
		_, err := b.beginWith([]byte(text), b.wish("alice", []byte(text)), quorum.Inputs{})
		if reason := fault.Of(err).Reason; reason != fault.RequestInvalid && reason != fault.DefinitionInvalid {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Neither a key nor a component is in anything that the engine returns, in any spelling,
// nor in an error.
func TestNoClearValueLeaves(t *testing.T) {
	b := newBench(t)
	s := &shelf{bench: b, kbpk: map[string][]byte{}}
	var secrets [][]byte
	var seen bytes.Buffer
	note := func(things ...any) {
		for _, thing := range things {
			dump(&seen, reflect.ValueOf(thing))
		}
	}
	keep := func(v []byte) []byte { secrets = append(secrets, bytes.Clone(v)); return v }

	zoneKey := keep(random(32))
	r := zone(b)
	parts := split(zoneKey, 2)
	for i, c := range parts {
		r.submit(officerNames[i], i+1, keep(c))
		check, err := r.check()
		note(check, err)
	}
	r.approve("alice", "bob")
	out := r.finish()
	note(r.papers.Opening, out.Epoch, out.Record, out.Key)
	for _, wrong := range []func(*run){
		func(r *run) {
			r.papers.Submissions[1] = resign(r, r.submission("bob", 2, keep(random(32))), func(s *ceremony.Statement) { s.CheckValue = "000000" })
		},
		func(r *run) { r.papers.Submissions[1] = r.submission("bob", 2, parts[0]) },
		func(r *run) { r.papers.Submissions[1] = r.submission("bob", 2, parts[1]) }, // the known key
	} {
		r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("other", "K1", "A", 32, "B", "N"), Components: 2})
		r.submit("alice", 1, parts[0])
		r.papers.Submissions = append(r.papers.Submissions, ceremony.Submission{})
		wrong(r)
		check, err := r.check()
		if err == nil {
			t.Errorf("check value %s", check)
		}
		note(check, err)
		r.abort()
	}
	data := keep(random(16))
	s.load(spec("data", "P0", "T", 16, "B", "E"), data)
	d := &ceremony.Definition{Kind: ceremony.Export, Target: ref("data"), Under: ref("zone"), Export: &ceremony.BlockForm{Version: "D", Exportability: "E", CheckValues: true}}
	out = b.perform(d)
	note(out.Block, out.Epoch, out.Record)
	im := &ceremony.Definition{Kind: ceremony.Import, Key: spec("again", "P0", "T", 16, "B", "E"), Under: ref("zone"), Block: out.Block}
	_, err := b.begin("alice", im)
	note(err)
	bdk := keep(random(16))
	s.load(spec("bdk", "B0", "A", 16, "X", "N"), bdk)
	d = &ceremony.Definition{Kind: ceremony.Export, Target: ref("bdk"), Under: ref("zone"), Export: &ceremony.BlockForm{Version: "D", Exportability: "N", KSN: "1234567890123456"}}
	out = b.perform(d)
	keep(b.inside(out.Block, "A", zoneKey))
	note(out.Block, out.Epoch, out.Record)

	all := seen.Bytes()
	if len(all) < 10_000 {
		t.Fatalf("only %d bytes were seen", len(all))
	}
	for i, secret := range secrets {
		for name, form := range map[string]string{
			"raw": string(secret), "hex": hex.EncodeToString(secret), "HEX": strings.ToUpper(hex.EncodeToString(secret)), "decimal": strings.Trim(fmt.Sprint(secret), "[]"),
			"base64": base64.StdEncoding.EncodeToString(secret)[:20], "half": string(secret[:8]), "half in hex": hex.EncodeToString(secret[:8]), "half in HEX": strings.ToUpper(hex.EncodeToString(secret[8:16])),
		} {
			if bytes.Contains(all, []byte(form)) {
				t.Errorf("secret %d left (%s)", i, name)
			}
		}
	}
}

// dump writes everything that a value holds, bytes and texts as they are and decoded.
func dump(out *bytes.Buffer, v reflect.Value) {
	if v.IsValid() && v.CanInterface() {
		if err, ok := v.Interface().(error); ok && err != nil {
			fmt.Fprintf(out, "%v %+v %#v\n", err, err, err)
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			dump(out, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			dump(out, v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := v.Bytes()
			out.Write(b)
			if r, err := ceremony.Decode[ceremony.Record](b, ceremony.MaxRecord); err == nil {
				dump(out, reflect.ValueOf(r))
			}
			fmt.Fprintf(out, "\n%x\n", b)
			return
		}
		for i := range v.Len() {
			dump(out, v.Index(i))
		}
	case reflect.String:
		out.WriteString(v.String() + "\n")
	default:
		fmt.Fprintln(out, v)
	}
}

// Locked memory is given back however a ceremony ends.
func TestLockedMemoryIsGivenBack(t *testing.T) {
	b := newBench(t)
	value := random(32)
	b.load(spec("taken", "K1", "A", 32, "B", "N"), value)
	s := &shelf{bench: b}
	s.load(spec("data", "P0", "T", 16, "B", "E"), random(16))
	d := &ceremony.Definition{Kind: ceremony.Export, Target: ref("data"), Under: ref("taken"), Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}}
	good := b.mustBegin("alice", d)
	good.approve("alice", "bob")
	r := zone(b)
	bad := zone(b)
	bad.submitAll(value)
	round := func() {
		r.papers.Submissions, r.papers.Approvals = nil, nil
		_, err := r.check() // nothing there yet
		b.must(err)
		r.submitAll(random(32))
		_, err = r.carryOut()
		refused(t, err, fault.QuorumMissing)
		r.approve("alice", "bob")
		_, err = r.carryOut()
		b.must(err)
		r.papers.Approvals[0] = r.papers.Approvals[1]
		_, err = r.carryOut()
		refused(t, err, fault.OfficerRepeated)
		_, err = bad.check()
		refused(t, err, fault.KeyValueRefused)
		_, err = good.carryOut()
		b.must(err)
		_, err = b.begin("alice", d) // is rehearsed
		b.must(err)
	}
	round()
	before := lockedMemory(t)
	for range 5 {
		round()
	}
	if after := lockedMemory(t); after > before {
		t.Errorf("%d kB of locked memory, %d before", after, before)
	}
}

// lockedMemory is how much memory of this process is locked, in kB.
func lockedMemory(t *testing.T) (kB int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(status), "VmLck:")
	if _, err := fmt.Sscan(rest, &kB); !found || err != nil || kB == 0 {
		t.Fatalf("VmLck: %v", err)
	}
	return kB
}
