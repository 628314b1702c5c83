package terminals

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"keyd/fault"
	"keyd/keys"
	"keyd/receipt"
	"keyd/store"
)

// Limits of injections.
const (
	MaxRequest = 32 << 10 // bytes of a terminal's message

	confirmWithin   = 24 * time.Hour
	mostUnconfirmed = 10  // injections of a terminal within a day
	mostInjections  = 100 // likewise, confirmed or not
	mostSkips       = 20  // times that numbers are skipped for one request

	// A request that comes to nothing again and again leaves an event each time. From that
	// revision of its injection on it is begun again no sooner than after a pause.
	manyTries  = 100
	triesPause = 10 * time.Minute
)

// Request is a terminal's request for keys.
type Request struct {
	Terminal string
	Method   Method
	Message  []byte   // of key agreement, or RT_KRD; nil in one-pass
	Own      [][]byte // identifiers of its own, in the order of the initial keys that have own
	Anew     bool     // not the answer that was given before, also where that is pending

	// Legacy refuses, if it does, what is given in the legacy form: under a bare master key.
	Legacy func(context.Context) error
}

// Answer is what goes to a terminal.
type Answer struct {
	Injection *Injection
	Answer    []byte
	KeyBlocks []string
}

// Inject gives a terminal the keys of its key set, for actor. The very same request gets the very
// same answer until it is confirmed or expires, unless it asks for another: then a new injection
// begins in one-pass, and by the other methods the message is used up. After any error nothing was
// given, and the same request may come again.
//
// What leaves is durable before: the identifiers of initial keys before a module is asked, the
// answer before it is returned.
func (d *Distribution) Inject(ctx context.Context, actor string, r Request) (*Answer, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s, err := d.inService(ctx, r.Terminal)
	if err != nil {
		return nil, err
	}
	set, err := d.keySetOf(ctx, &s.record)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(set.Methods, r.Method) {
		return nil, errMethod
	}
	nonce, err := r.nonce(s)
	if err != nil {
		return nil, err
	}
	digest := r.digest(set, nonce)
	before, nonce, err := d.before(ctx, &r, digest, nonce)
	if err != nil {
		return nil, err
	}
	var past string
	if r.Anew && before != nil && before.State == store.InjectionPending {
		if r.Method != OnePass {
			return nil, fault.New(fault.RequestReplayed, "it was answered, and other keys need a new one")
		}
		past, nonce, before = before.ID, following(digest, before.Number), nil
	}
	if before != nil {
		if answer, err := d.again(ctx, &r, before, digest, set); answer != nil || err != nil {
			return answer, err
		}
		if again := before.Created.Add(triesPause); before.Revision >= manyTries && d.inventory.now().Before(again) {
			return nil, fault.New(fault.RateLimited, "this request came to nothing many times: it may come again from "+again.Format(time.RFC3339)+" on")
		}
	}
	if set.Master.Bare {
		if err := r.Legacy(ctx); err != nil {
			return nil, err
		}
	}
	j, err := d.prepare(ctx, actor, &r, s, set)
	if err != nil {
		return nil, err
	}
	j.digest, j.nonce, j.past = digest, nonce, past
	return j.run(ctx, before)
}

func (r *Request) check() error {
	switch {
	case r.Method != KeyAgreement && !r.Method.token():
		return fault.New(fault.RequestInvalid, "request is one of key_agreement, tr34_random_token and tr34_one_pass")
	case (r.Method == OnePass) != (len(r.Message) == 0) || len(r.Message) > MaxRequest:
		return fault.New(fault.RequestInvalid, "the terminal's message has 1 byte to 32 KiB, and there is none in one-pass")
	case len(r.Own) > MaxInitial:
		return fault.New(fault.RequestInvalid, "initial_key_ids are at most 6")
	}
	return nil
}

// nonce returns the digest of what makes a request a new one: of its random number, or of all of
// it. There is none in one-pass. It refuses what is no request of the terminal; a module looks for
// itself.
func (r *Request) nonce(s *service) ([]byte, error) {
	switch r.Method {
	case KeyAgreement:
		switch err := checkAgreement(r.Message, s.chain[0]); {
		case errors.Is(err, errKey):
			return nil, fault.New(fault.PublicKeyKnown, err.Error())
		case err != nil:
			return nil, fault.New(fault.RequestInvalid, "key_agreement: "+err.Error())
		}
		sum := sha256.Sum256(r.Message)
		return sum[:], nil
	case TwoPass:
		random, err := randomOf(r.Message)
		if err != nil {
			return nil, fault.New(fault.RequestInvalid, "tr34_random_token: "+err.Error())
		}
		sum := sha256.Sum256(append([]byte("TR-34 random number\x00"), random...))
		return sum[:], nil
	}
	return nil, nil
}

// digest is of all that was asked for. In one-pass nothing comes from the terminal, so there
// the key set is a part of it.
func (r *Request) digest(set *KeySet, nonce []byte) []byte {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	part([]byte(r.Method))
	part(r.Message)
	for _, id := range r.Own {
		part(id)
	}
	if nonce == nil {
		part([]byte(set.Name))
		part(binary.BigEndian.AppendUint32(nil, set.Version))
	}
	return h.Sum(nil)
}

// before returns the injection that was begun for the request, nil where there is none, and the
// nonce. A terminal that asks in one pass says nothing that is new: there the nonce counts, so
// that of those who carry the same request at the same moment one begins an injection.
func (d *Distribution) before(ctx context.Context, r *Request, digest, nonce []byte) (*store.Injection, []byte, error) {
	var i store.Injection
	var err error
	if nonce != nil {
		i, err = d.store.InjectionOfNonce(ctx, r.Terminal, nonce)
	} else {
		i, err = d.store.InjectionOfRequest(ctx, r.Terminal, digest)
	}
	none := errors.Is(err, store.ErrNotFound)
	switch {
	case err != nil && !none:
		return nil, nil, refused(ctx, err)
	case nonce != nil && none:
		return nil, nonce, nil
	case nonce != nil:
		return &i, nonce, nil
	case i.State == store.InjectionBegun || i.State == store.InjectionFailed || i.State == store.InjectionPending && d.inventory.now().Before(i.ConfirmBy):
		return &i, i.Nonce, nil
	}
	return nil, following(digest, i.Number), nil // 0: the first
}

// following is the nonce of one-pass after the injection of that number.
func following(digest []byte, number uint64) []byte {
	next := sha256.Sum256(binary.BigEndian.AppendUint64(digest[:len(digest):len(digest)], number))
	return next[:]
}

// again answers a request that came before: with the same, or not at all; neither where it can
// be begun again.
func (d *Distribution) again(ctx context.Context, r *Request, i *store.Injection, digest []byte, set *KeySet) (*Answer, error) {
	switch {
	case !bytes.Equal(i.Request, digest):
		return nil, fault.New(fault.RequestReplayed, "it was a part of another request: make a new one")
	case i.State == store.InjectionPending && d.inventory.now().Before(i.ConfirmBy):
		then, err := d.store.KeySetVersion(ctx, i.KeySet, i.KeySetVersion)
		k, err := keySet(ctx, then, err)
		if err != nil {
			return nil, err
		}
		if k.Master.Bare {
			if err := r.Legacy(ctx); err != nil {
				return nil, err
			}
		}
		return answer(i, d.inventory.now())
	case i.State != store.InjectionBegun && i.State != store.InjectionFailed:
		return nil, fault.New(fault.RequestReplayed, "make a new one")
	case i.KeySet != set.Name || i.KeySetVersion != set.Version:
		return nil, fault.New(fault.RequestReplayed, "the terminal's key set is another by now: make a new one")
	}
	return nil, nil
}

// answer is what was kept for a terminal.
func answer(i *store.Injection, now time.Time) (*Answer, error) {
	v, err := injection(i, now)
	if err != nil {
		return nil, err
	}
	return &Answer{v, i.Answer, i.KeyBlocks}, nil
}

// wanted says which initial keys an injection is to have.
func wanted(set *KeySet, bdks []keys.Key, own [][]byte, skip uint32) (list []store.Wanted, err error) {
	for i := range set.Initial {
		s := &set.Initial[i]
		w := store.Wanted{Name: s.Name, BDK: bdks[i].Name}
		if !s.Own {
			w.Range, w.Skip = store.Range{Prefix: s.Prefix, First: s.First, Last: s.Last}, skip
			list = append(list, w)
			continue
		}
		if len(own) == 0 {
			return nil, fault.New(fault.RequestInvalid, "initial_key_ids are fewer than the initial keys of the key set for which the terminal brings its own")
		}
		if w.Own, own = own[0], own[1:]; !ownID(s, w.Own) {
			return nil, fault.New(fault.RequestInvalid, "initial_key_ids: each begins with the prefix of its initial key; TDES has 10 bytes of which the last 21 bits are 0, AES 8 bytes")
		}
		list = append(list, w)
	}
	if len(own) > 0 {
		return nil, fault.New(fault.RequestInvalid, "initial_key_ids are more than the initial keys of the key set for which the terminal brings its own")
	}
	return list, nil
}

// ownID reports whether an identifier is one that a terminal can have.
func ownID(s *InitialSpec, id []byte) bool {
	if !bytes.HasPrefix(id, s.Prefix) {
		return false
	}
	if len(s.Prefix) == 4 {
		return len(id) == 8
	}
	return len(id) == 10 && id[7]&0x1f == 0 && id[8] == 0 && id[9] == 0
}

// newID makes the identifier of an injection.
func newID() (id [receipt.IDSize]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// rawID is an identifier in bytes.
func rawID(id string) (raw [receipt.IDSize]byte) {
	b, _ := hex.DecodeString(id) // the store keeps nothing else
	copy(raw[:], b)
	return raw
}
