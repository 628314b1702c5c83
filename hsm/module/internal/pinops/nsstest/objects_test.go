package nsstest

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/velocity"
)

// onlooker sees the session objects of all sessions of this process.
type onlooker struct {
	testing.TB
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
}

func look(t testing.TB, f tokentest.Fresh) *onlooker {
	t.Helper()
	slot, _, err := f.Library.FindToken(f.Label)
	if err != nil {
		t.Fatal(err)
	}
	o := &onlooker{TB: t, ctx: pkcs11.New(f.Path)} // the library is initialised already
	if o.session, err = o.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *onlooker) objects() (all []pkcs11.ObjectHandle) {
	o.Helper()
	err := o.ctx.FindObjectsInit(o.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)})
	for more := true; err == nil && more; {
		var found []pkcs11.ObjectHandle
		found, _, err = o.ctx.FindObjects(o.session, 100)
		all, more = append(all, found...), len(found) > 0
	}
	if err = errors.Join(err, o.ctx.FindObjectsFinal(o.session)); err != nil {
		o.Fatal(err)
	}
	return all
}

// TestNothingIsLeft: whatever comes of an operation, its objects are gone when it has ended, and those that stay
// do not become more.
func TestNothingIsLeft(t *testing.T) {
	f := tokentest.NSS(t)
	b := sealedtest.On(t, f.Open(t, 4))
	o := look(t, f)
	once := velocity.Limit{Minute: 1, Hour: 1, Day: 1}
	engines := map[string]*pinops.Engine{"carried out": pinops.NewEngine(b.Keys, nil), "one try": pinops.NewEngine(b.Keys, limited(t, velocity.Limits{Verification: once, Translation: once}))}
	samples := pinopstest.Samples(b)
	run := func(e *pinops.Engine, change func(*pinops.Operation)) (reasons map[fault.Reason]int) {
		reasons = map[fault.Reason]int{}
		ops := make([]*pinops.Operation, len(samples))
		for i, s := range samples {
			ops[i] = s.Operation()
			change(ops[i])
		}
		e.Run(ops...)
		for _, op := range ops {
			if op.Err != nil {
				reasons[fault.Of(op.Err).Reason]++
				continue
			}
			reasons[0]++
		}
		return reasons
	}
	asIs := func(*pinops.Operation) {}
	malformed := func(op *pinops.Operation) {
		if op.Translate != nil {
			op.Translate.Block[3] ^= 1
		}
		if op.Verify != nil {
			op.Verify.Block[3] ^= 1
		}
	}
	run(engines["carried out"], asIs)
	lasting := len(o.objects())
	for name, c := range map[string]struct {
		engine *pinops.Engine
		change func(*pinops.Operation)
		want   fault.Reason
		least  int
	}{
		"carried out":      {engines["carried out"], asIs, 0, len(samples)},
		"malformed blocks": {engines["carried out"], malformed, fault.PINBlockInvalid, len(samples) - 1},
		"too many tries":   {engines["one try"], asIs, fault.RateLimited, 1},
	} {
		for range 3 {
			if reasons := run(c.engine, c.change); reasons[c.want] < c.least {
				t.Errorf("%s: %v", name, reasons)
			}
			if now := len(o.objects()); now > lasting+2 { // the other engine's transit keys
				t.Errorf("%s: %d objects, where %d stay", name, now, lasting)
			}
		}
	}
	if lasting < 8 || lasting > 40 { // keys, derivation keys and transit keys
		t.Errorf("%d objects stay", lasting)
	}
}

// TestObjectsThatAreLost: when the token has lost what stays in it, it is made anew, once, and the operations are
// carried out.
func TestObjectsThatAreLost(t *testing.T) {
	f := tokentest.NSS(t)
	b := sealedtest.On(t, f.Open(t, 4))
	o := look(t, f)
	engine := pinops.NewEngine(b.Keys, nil)
	for range 5 {
		for _, s := range pinopstest.Samples(b) {
			op := s.Operation()
			if engine.Run(op); op.Err != nil {
				t.Fatalf("%s: %v", s.Name, op.Err)
			}
			if custody := op.Translated.Custody + op.Verified.Custody + op.Generated.Custody; custody != hsm.InToken {
				t.Fatalf("%s: %v", s.Name, custody)
			}
		}
		for _, object := range o.objects() {
			if err := o.ctx.DestroyObject(o.session, object); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func limited(t *testing.T, l velocity.Limits) *tries.Tries {
	t.Helper()
	f, err := velocity.Create(filepath.Join(t.TempDir(), "velocity"), 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	clock, err := velocity.SystemClock()
	if err != nil {
		t.Fatal(err)
	}
	table, err := velocity.Open(int(f.Fd()), [32]byte{1}, [16]byte{1}, l, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(table.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	return tries.New(table)
}

// TestRefusedWithoutCalls: what is refused by the rules, when its keys are there, costs no token call.
func TestRefusedWithoutCalls(t *testing.T) {
	b := sealedtest.On(t, open(t))
	engine := pinops.NewEngine(b.Keys, nil)
	for _, s := range pinopstest.Samples(b) {
		op, refused := s.Operation(), s.Operation()
		if op.Translate == nil {
			continue
		}
		refused.Translate.KSNRefused = true
		engine.Run(op)
		before := b.Token.Calls()
		engine.Run(refused)
		if fault.Of(refused.Err).Reason != fault.KSNReplayed || !slices.Equal(b.Token.Calls(), before) {
			t.Errorf("%s: %v, %v calls, %v before", s.Name, refused.Err, b.Token.Calls(), before)
		}
	}
}
