package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// The steps of a void, in the order in which a shop, its switch and the acquirer take them. The token
// is verified here, with package voidtoken and nothing of keyd.
var voidSteps = []string{"create", "scan", "authorise", "verify the token", "confirm"}

// voidKind is a way in which voids are authorised.
type voidKind struct {
	name    string
	amount  int64 // minor units, for which the development policy wants these methods
	methods []voidtoken.Method
}

var voidKinds = []voidKind{
	{"supervisor", 12_300, []voidtoken.Method{voidtoken.SupervisorPIN}},
	{"supervisor and cardholder", 300_000, []voidtoken.Method{voidtoken.SupervisorPIN, voidtoken.CardholderPIN}},
}

// voidFigures are what was measured of voids of one kind on one database. Times of steps are those of
// the whole call.
type voidFigures struct {
	figures

	Steps []voidStep `json:"steps"`
}

type voidStep struct {
	Name string  `json:"name"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
}

// voiding has shops void payments on one service.
type voiding struct {
	target

	kind        voidKind
	supervisors *workload // their terminals
	cardholders *workload // those of the same shops for cards
	keys        voidtoken.Keys
	run         string // makes references and requests others than those of other measurements

	whole *histogram
	steps []*histogram
}

// shop voids one payment after the other.
type shop struct {
	*voiding

	number   int
	voids    keydv1.VoidServiceClient
	own      *maker // of the supervisor's PINs
	card     *maker
	payments int
}

func newVoiding(t target, kind voidKind, supervisors, cardholders *workload, keys voidtoken.Keys, run string) *voiding {
	v := &voiding{target: t, kind: kind, supervisors: supervisors, cardholders: cardholders, keys: keys, run: run}
	v.forget()
	return v
}

func (v *voiding) forget() {
	v.whole, v.steps = new(histogram), nil
	for range voidSteps {
		v.steps = append(v.steps, new(histogram))
	}
}

// shops are as many as there may be calls under way: one of each, for each has one supervisor.
func (v *voiding) shops(n int) (list []*shop, err error) {
	for i := range min(n, len(v.supervisors.subjects)) {
		s := &shop{voiding: v, number: i, voids: keydv1.NewVoidServiceClient(v.server.conns[i%len(v.server.conns)])}
		if s.own, err = v.supervisors.newMaker(uint64(i)); err != nil {
			return nil, err
		}
		if s.card, err = v.cardholders.newMaker(uint64(i)); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// measure has shops void payments for length, after a warm-up, and adds what came of it to f as one
// of several turns.
func (v *voiding) measure(ctx context.Context, shops []*shop, length time.Duration, f *voidFigures, of float64) error {
	if _, err := v.together(ctx, shops, length/4); err != nil {
		return err
	}
	v.forget()
	before, err := readCPU(v.processes)
	if err != nil {
		return err
	}
	took, err := v.together(ctx, shops, length)
	if err != nil {
		return err
	}
	after, err := readCPU(v.processes)
	if err != nil {
		return err
	}
	one := figures{Operation: "voids, " + v.kind.name, Mode: string(unary), UnderWay: len(shops), Count: v.whole.count(), CPU: make(map[string]float64)}
	if one.Count == 0 {
		return fmt.Errorf("no void was confirmed within %v", length)
	}
	one.take(v.whole, took)
	var used usage
	used.add(before, after)
	one.charge(v.processes, &used, one.Count)
	add(&f.figures, &one, of)
	for i, name := range voidSteps {
		if len(f.Steps) == i {
			f.Steps = append(f.Steps, voidStep{Name: name})
		}
		f.Steps[i].P50 += v.steps[i].percentile(0.5) / of
		f.Steps[i].P99 += v.steps[i].percentile(0.99) / of
	}
	return nil
}

// together has all shops void payments until length has passed. Each ends the void that it has begun; the
// time until the last has done so counts.
func (v *voiding) together(ctx context.Context, shops []*shop, length time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	var wait sync.WaitGroup
	for _, s := range shops {
		wait.Go(func() {
			for time.Since(began) < length && ctx.Err() == nil {
				one, stop := context.WithTimeout(ctx, patience)
				err := s.void(one)
				stop()
				if err != nil {
					cancel(fmt.Errorf("voids, %s, shop %d: %w", v.kind.name, s.number, err))
				}
			}
		})
	}
	wait.Wait()
	return time.Since(began), context.Cause(ctx)
}

// void takes one payment back.
func (s *shop) void(ctx context.Context) error {
	s.payments++
	subject := s.supervisors.subject(uint32(s.number))
	name := fmt.Sprintf("%s-%d-%d", s.run, s.number, s.payments)
	fields := voidtoken.Fields{Merchant: subject.Merchant, Terminal: "t-1", Reference: name, Amount: s.kind.amount, Currency: voidtoken.CNY}
	no := false
	facts := &keydv1.PaymentFacts{Merchant: fields.Merchant, Amount: fields.Amount, Currency: int32(fields.Currency), PaidAt: timestamppb.Now(), Settled: &no, Voided: &no}
	began := time.Now()
	last := began
	step := func(i int) {
		now := time.Now()
		s.steps[i].add(now.Sub(last))
		last = now
	}

	created, err := s.voids.CreateVoid(ctx, &keydv1.CreateVoidRequest{
		RequestId: name, Merchant: fields.Merchant, Terminal: fields.Terminal, Reference: fields.Reference, Amount: fields.Amount, Currency: int32(fields.Currency), Payment: facts,
	})
	if err := stands(created.GetVoid(), err, keydv1.Void_CREATED); err != nil {
		return err
	}
	step(0)
	scanned, err := s.voids.ScanVoid(ctx, &keydv1.ScanVoidRequest{RequestId: name, Code: created.Code, Merchant: fields.Merchant})
	if err := stands(scanned, err, keydv1.Void_SCANNED); err != nil {
		return err
	}
	step(1)
	fields.Void = scanned.VoidId
	request := &keydv1.AuthorizeVoidRequest{RequestId: name, VoidId: fields.Void, Payment: facts}
	if request.Pins, err = s.typed(fields); err != nil {
		return err
	}
	last = time.Now() // typing is the shop's
	authorized, err := s.voids.AuthorizeVoid(ctx, request)
	if err := stands(authorized.GetVoid(), err, keydv1.Void_AUTHORIZED); err != nil {
		return err
	}
	step(2)
	if _, err := voidtoken.Verify(authorized.Token, s.keys, voidtoken.Expected{Fields: fields, Methods: [][]voidtoken.Method{s.kind.methods}}, time.Now()); err != nil {
		return fmt.Errorf("wrong answer: %w", err)
	}
	step(3)
	confirmed, err := s.voids.ConfirmVoid(ctx, &keydv1.ConfirmVoidRequest{RequestId: name, VoidId: fields.Void, Reversed: true})
	if err := stands(confirmed, err, keydv1.Void_CONFIRMED); err != nil {
		return err
	}
	step(4)
	s.whole.add(time.Since(began))
	return nil
}

// stands insists on the state of a void.
func stands(v *keydv1.Void, err error, want keydv1.Void_State) error {
	if err == nil && v.GetState() != want {
		err = fmt.Errorf("wrong answer: the void is %s (%s %s), and not %s", v.GetState(), v.GetResult(), v.GetRefusal(), want)
	}
	return err
}

// typed are the PINs of a void, bound to it.
func (s *shop) typed(fields voidtoken.Fields) ([]*keydv1.VoidPinEntry, error) {
	digest, err := fields.Digest()
	if err != nil {
		return nil, err
	}
	subject := s.supervisors.subject(uint32(s.number))
	own, err := s.enter(s.own, subject.number, subject.pin, digest)
	if err != nil {
		return nil, err
	}
	own.Whose = &keydv1.VoidPinEntry_Supervisor{Supervisor: subject.message}
	list := []*keydv1.VoidPinEntry{own}
	if len(s.kind.methods) == 1 {
		return list, nil
	}
	card := s.card.cards.draw()
	account, digits := pan(card), pin(card)
	entry, err := s.enter(s.card, string(account[:]), digits[:], digest)
	if err != nil {
		return nil, err
	}
	value := pvv(&s.card.pvk, account, digits)
	entry.Whose = &keydv1.VoidPinEntry_Cardholder{Cardholder: &keydv1.CardholderPin{
		VerificationKeyId: pvk, PrimaryAccountNumber: string(account[:]),
		Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: string(value[:])}}},
	}}
	return append(list, entry), nil
}

// enter enciphers a PIN at a terminal of the shop, and binds it to a void.
func (s *shop) enter(m *maker, number string, digits []byte, digest [sha256.Size]byte) (*keydv1.VoidPinEntry, error) {
	r := request0(s.number)
	if err := m.seal(&r, number, digits); err != nil {
		return nil, err
	}
	code, err := m.mac(&r, pinrecord.Bound(digest, r.sealed(m.workload), true))
	if err != nil {
		return nil, err
	}
	return &keydv1.VoidPinEntry{
		Incoming: m.pinKey(&r), EncryptedPinBlock: r.sealed(m.workload),
		MacKey: &keydv1.MacKey{KeyId: m.incoming, Algorithm: keydv1.MacKey_CMAC, Dukpt: m.serial(&r), Direction: keydv1.MacKey_REQUEST},
		Mac:    code,
	}, nil
}
