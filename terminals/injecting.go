package terminals

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/receipt"
	"keyd/store"
)

// job is one injection on its way.
type job struct {
	*Distribution

	actor         string
	request       *Request
	service       *service
	set           *KeySet
	host          *KeyHost
	pair          keys.Key
	bdks          []keys.Key // of the initial keys
	digest, nonce []byte
	past          string // the injection whose answer is not wanted any more, if any
}

// prepare finds everything that an injection needs, and allots nothing.
func (d *Distribution) prepare(ctx context.Context, actor string, r *Request, s *service, set *KeySet) (*job, error) {
	j := &job{Distribution: d, actor: actor, request: r, service: s, set: set}
	var err error
	if j.host, err = d.hostBy(ctx, set, r.Method); err != nil {
		return nil, err
	}
	chain, err := parse(j.host.Certificates)
	if err != nil {
		return nil, err
	}
	if r.Method == OnePass && len(j.host.List) == 0 {
		return nil, fault.New(fault.RequestInvalid, "one-pass needs the revocation list of the hosts' authority, which the key host does not have (SetKeyHost)")
	}
	if j.pair, err = d.pair(ctx, j.host.Key, chain[0]); err != nil {
		return nil, err
	}
	for i := range set.Initial {
		k, err := d.usable(ctx, set.Initial[i].Key)
		if err != nil {
			return nil, err
		}
		prefix := map[string]int{"T": 5, "A": 4}[k.Header.Algorithm]
		if k.Header.Usage != "B0" || len(set.Initial[i].Prefix) != prefix {
			return nil, fault.New(fault.KeyUsageMismatch, "the key of an initial key is another than when the key set was made: set it again")
		}
		j.bdks = append(j.bdks, k)
	}
	return j, nil
}

// run begins an injection, or one again that was begun before, and brings it to its answer.
func (j *job) run(ctx context.Context, before *store.Injection) (*Answer, error) {
	list, err := wanted(j.set, j.bdks, j.request.Own, 0)
	if err != nil {
		return nil, err
	}
	now := j.inventory.now()
	var i store.Injection
	if before != nil {
		var anew []store.Wanted
		if j.request.Method == OnePass && !j.derives(before) { // it has no other request to make
			anew = list
		}
		i, err = j.store.RetryInjection(ctx, before.Terminal, before.ID, before.Revision, j.service.record.PublicKey, anew, now, now.Add(confirmWithin))
	} else {
		id := newID()
		i, err = j.store.BeginInjection(ctx, store.Begin{
			Injection: store.Injection{
				ID: hex.EncodeToString(id[:]), Terminal: j.service.record.ID, Method: string(j.request.Method), KeySet: j.set.Name, KeySetVersion: j.set.Version,
				Request: j.digest, Nonce: j.nonce, Created: now, ConfirmBy: now.Add(confirmWithin),
			},
			PublicKey: j.service.record.PublicKey, Wanted: list, Most: mostUnconfirmed, MostAll: mostInjections,
		})
	}
	if err != nil {
		if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) {
			return j.raced(ctx)
		}
		return nil, refusedKeys(ctx, err)
	}
	given, err := j.make(ctx, &i)
	if err != nil {
		j.failed(ctx, &i, err)
		return nil, err
	}
	return j.keep(ctx, &i, given)
}

// derives reports whether the initial keys of an injection are of the base derivation keys that
// there are now.
func (j *job) derives(i *store.Injection) bool {
	return slices.EqualFunc(i.Keys, j.bdks, func(k store.AllottedKey, bdk keys.Key) bool { return k.BDK == bdk.Name })
}

// raced says what became of a request that somebody else has begun, or answered, meanwhile.
func (j *job) raced(ctx context.Context) (*Answer, error) {
	nonce := j.nonce
	if j.request.Method == OnePass {
		nonce = nil
	}
	i, _, err := j.before(ctx, j.request, j.digest, nonce)
	if err != nil {
		return nil, err
	}
	if i != nil && i.ID != j.past && bytes.Equal(i.Request, j.digest) && i.State == store.InjectionPending && j.inventory.now().Before(i.ConfirmBy) {
		return answer(i, j.inventory.now())
	}
	if _, err := j.registered(ctx, j.request.Terminal); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.Conflict, "the terminal, its key set or this request was changed or is being answered at the same moment: send it again")
}

// make has a module make the keys. Numbers that its ledger gives to others, which the database
// has forgotten, are skipped in growing steps; each step is kept.
func (j *job) make(ctx context.Context, i *store.Injection) (*hsm.Injected, error) {
	for skips := 0; ; skips++ {
		given, err := j.ask(ctx, i)
		if err == nil {
			return given, j.fits(i, given)
		}
		allotted := slices.ContainsFunc(j.set.Initial, func(s InitialSpec) bool { return !s.Own })
		if fault.Of(err).Reason != fault.InitialKeyAllotted || !allotted || skips == mostSkips {
			return nil, err
		}
		list, err := wanted(j.set, j.bdks, j.request.Own, 1<<skips-1)
		if err != nil {
			return nil, err
		}
		next, err := j.store.RetryInjection(ctx, i.Terminal, i.ID, i.Revision, j.service.record.PublicKey, list, i.Created, i.ConfirmBy)
		if err != nil {
			return nil, refusedKeys(ctx, err)
		}
		*i = next
	}
}

// ask asks a module once.
func (j *job) ask(ctx context.Context, i *store.Injection) (*hsm.Injected, error) {
	common := hsm.Injection{
		ID: rawID(i.ID), Terminal: i.Terminal, Device: j.service.device(), Host: hsm.Key{Name: j.pair.Name, Sealed: j.pair.Sealed}, HostCertificates: j.host.Certificates,
		Master: hsm.MasterSpec{Algorithm: j.set.Master.Algorithm, Length: int(j.set.Master.Length), Bare: j.set.Master.Bare},
	}
	if !j.derives(i) {
		return nil, fault.New(fault.RequestReplayed, "a base derivation key is another by now: make a new one")
	}
	for n, k := range i.Keys {
		common.Keys = append(common.Keys, hsm.InitialKey{Name: k.Name, BDK: hsm.Key{Name: j.bdks[n].Name, Sealed: j.bdks[n].Sealed}, ID: k.ID})
	}
	if j.request.Method == KeyAgreement {
		return j.modules.InjectByAgreement(ctx, hsm.InjectByAgreement{Injection: common, Request: j.request.Message})
	}
	r := hsm.InjectByToken{Injection: common, DeviceCertificates: j.service.certificates(), RandomToken: j.request.Message, Profile: j.set.Profile}
	if j.request.Method == OnePass {
		r.HostList = j.host.List
	}
	return j.modules.InjectByToken(ctx, r)
}

// methods are those of records.
var methods = map[Method]string{KeyAgreement: receipt.ByAgreement, TwoPass: receipt.ByTwoPass, OnePass: receipt.ByOnePass}

// fits refuses what a module gave unless its record is of what was asked for.
func (j *job) fits(i *store.Injection, given *hsm.Injected) error {
	r, err := recordOf(given.Record)
	if err != nil {
		return fault.Wrap(fault.Internal, fmt.Errorf("injection %s: a module's record: %w", i.ID, err))
	}
	device, usage := j.service.device(), "K1"
	if j.set.Master.Bare {
		usage = "K0"
	}
	good := r.Injection == i.ID && r.Terminal == i.Terminal && r.Device == hex.EncodeToString(device[:]) && r.Method == methods[j.request.Method] && r.Host == j.pair.Name &&
		len(r.Keys) == 2+len(i.Keys) && r.Keys[0].Usage == usage && r.Keys[0].Algorithm == j.set.Master.Algorithm && uint32(r.Keys[0].Length) == j.set.Master.Length
	for n := 0; good && n < len(i.Keys); n++ {
		k, want := &r.Keys[2+n], &i.Keys[n]
		good = k.Name == want.Name && k.BDK == want.BDK && k.BDKVersion == j.bdks[n].Version && k.ID == strings.ToUpper(hex.EncodeToString(want.ID))
	}
	if !good {
		return fault.Wrap(fault.Internal, fmt.Errorf("injection %s: a module's record is of something else", i.ID))
	}
	for name, sealed := range map[string][]byte{store.MasterName: given.Master, store.ReceiptName: given.ReceiptKey} {
		s, err := hsm.ParseSealed(sealed)
		if err != nil || s.Header.Name != hsm.TerminalPrefix+i.Terminal+":"+name || s.Header.Device != r.Device {
			return fault.Wrap(fault.Internal, fmt.Errorf("injection %s: a module sealed a %s key of something else", i.ID, name))
		}
	}
	return nil
}

// keep makes the answer durable, and only then returns it.
func (j *job) keep(ctx context.Context, i *store.Injection, given *hsm.Injected) (*Answer, error) {
	ctx, cancel := afterwards(ctx) // the module's ledger has it already
	defer cancel()
	at := j.inventory.now()
	err := j.store.AnswerInjection(ctx, store.Given{
		Terminal: i.Terminal, ID: i.ID, Revision: i.Revision, Answer: given.Answer, KeyBlocks: given.KeyBlocks, Record: given.Record,
		Master: given.Master, ReceiptKey: given.ReceiptKey, ConfirmBy: i.ConfirmBy, At: at,
	}, store.TerminalEvent{Kind: EventKeysSent, Actor: j.actor, Detail: detail(i), At: at})
	switch {
	case errors.Is(err, store.ErrConflict):
		return j.raced(ctx) // what was made is nobody's
	case err != nil:
		return nil, refusedKeys(ctx, err)
	}
	i.State, i.Answer, i.KeyBlocks, i.Record = store.InjectionPending, given.Answer, given.KeyBlocks, given.Record
	return answer(i, at)
}

// failed notes that nothing was given. Where that cannot be kept either, the injection stays
// begun until the next sweep.
func (j *job) failed(ctx context.Context, i *store.Injection, why error) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	reason := "the caller gave up"
	if !errors.Is(why, context.Canceled) && !errors.Is(why, context.DeadlineExceeded) {
		reason = fault.Of(why).Reason.String()
	}
	_ = j.store.EndInjection(ctx, i.Terminal, i.ID, i.Revision, store.InjectionFailed, reason,
		store.TerminalEvent{Kind: EventKeysFailed, Actor: j.actor, Detail: cut(detail(i) + ": " + reason), At: j.inventory.now()})
}

// detail says in an event what an injection is of.
func detail(i *store.Injection) string {
	text := fmt.Sprintf("injection %s, %s, key set %s version %d", i.ID, methods[Method(i.Method)], i.KeySet, i.KeySetVersion)
	for _, k := range i.Keys {
		text += fmt.Sprintf(", %s %X", k.Name, k.ID)
	}
	return cut(text)
}

func cut(s string) string {
	if len(s) > store.MaxEventDetail {
		s = strings.ToValidUTF8(s[:store.MaxEventDetail], "")
	}
	return s
}

// recordOf reads a record with the modules' MAC behind it, of which nothing is verified.
func recordOf(sealed []byte) (*receipt.Record, error) {
	r, _, err := receipt.Split(sealed)
	if err != nil {
		return nil, err
	}
	return receipt.ParseRecord(r)
}
