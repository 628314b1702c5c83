package client

import (
	"context"
	"slices"
	"sync"

	keydv1 "keyd/api/keyd/v1"
)

// route is where a call may go, for all of its attempts. A nil route is free to go
// anywhere.
type route struct {
	terminal uint64 // its home takes the call; 0: the keyds take turns
	only     string // the one keyd, for a stream

	mu    sync.Mutex
	avoid []string // keyds that have failed the call
	taken string   // the keyd of the last attempt; "" if it reached none
}

func newRoute(request any) *route {
	r := new(route)
	if id := terminalOf(request); id != nil {
		r.terminal = max(1, hash(id))
	}
	return r
}

// took notes which keyd gets the call.
func (r *route) took(address string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = address
}

// begin forgets which keyd had the attempt before.
func (r *route) begin() { r.took("") }

// reached returns which keyd the attempt was for; "" if for none.
func (r *route) reached() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// leave keeps the call from the keyd of the last attempt.
func (r *route) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken != "" && !slices.Contains(r.avoid, r.taken) {
		r.avoid = append(r.avoid, r.taken)
	}
}

// avoided returns the keyds to avoid. It is not changed later.
func (r *route) avoided() []string {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.avoid)
}

type routeKey struct{}

func (r *route) in(ctx context.Context) context.Context { return context.WithValue(ctx, routeKey{}, r) }

func routeOf(ctx context.Context) *route {
	r, _ := ctx.Value(routeKey{}).(*route)
	return r
}

// terminalOf returns the initial key ID of the DUKPT terminal that a request is about: of
// the first of its keys that has a KSN. nil if it is about none.
func terminalOf(request any) []byte {
	switch r := request.(type) {
	case *keydv1.TranslatePinDataRequest:
		return firstOf(r.GetIncoming(), r.GetOutgoing())
	case *keydv1.VerifyPinDataRequest:
		return firstOf(r.GetIncoming())
	case *keydv1.GeneratePinDataRequest:
		return firstOf(r.GetOutgoing())
	case *keydv1.ChangePinDataRequest:
		return firstOf(r.GetIncoming(), r.GetNewIncoming())
	case *keydv1.GenerateMacRequest:
		return firstOf(r.GetKey())
	case *keydv1.VerifyMacRequest:
		return firstOf(r.GetKey())
	case *keydv1.EncryptDataRequest:
		return firstOf(r.GetKey())
	case *keydv1.DecryptDataRequest:
		return firstOf(r.GetKey())
	case *keydv1.ReEncryptDataRequest:
		return firstOf(r.GetIncoming(), r.GetOutgoing())
	}
	return nil
}

func firstOf[K interface {
	GetDukpt() *keydv1.DukptAttributes
}](keys ...K) []byte {
	for _, k := range keys {
		if id := initialKeyID(k.GetDukpt().GetKeySerialNumber()); id != nil {
			return id
		}
	}
	return nil
}

// initialKeyID returns what a terminal's KSNs have in common: 59 bits of the 10 bytes of
// ANSI X9.24-1, 8 of the 12 bytes of X9.24-3. nil for any other length.
func initialKeyID(ksn []byte) []byte {
	switch len(ksn) {
	case 10:
		id := slices.Clone(ksn[:8])
		id[7] &= 0xE0 // 21 bits are the counter
		return id
	case 12:
		return ksn[:8]
	}
	return nil
}
