package voids

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/pinrecord"
	"keyd/policies"
	"keyd/store"
	"keyd/trust"
	"keyd/turns"
	"keyd/voidtoken"
)

// The actions that a policy allows or not.
const (
	ActionCreate    = "VoidService/CreateVoid"
	ActionScan      = "VoidService/ScanVoid"
	ActionAuthorize = "VoidService/AuthorizeVoid"
	ActionApprove   = "VoidService/ApproveVoid"
	ActionConfirm   = "VoidService/ConfirmVoid"
	ActionCancel    = "VoidService/CancelVoid"
	ActionGet       = "VoidService/GetVoid"
	ActionToken     = "VoidService/GetVoidToken"
	ActionList      = "VoidService/ListVoids"
	ActionWatch     = "VoidService/WatchVoid"
)

// Modules sign; [hsm.Client] has them do it. Their errors are refusals of package fault.
type Modules interface {
	AuthorizeVoid(ctx context.Context, r hsm.AuthorizeVoid) (hsm.AuthorizedVoid, error)
	ApproveVoid(ctx context.Context, r hsm.ApproveVoid) (token string, err error)
	SignCode(ctx context.Context, r hsm.SignCode) (signature []byte, err error)
	AuthorizeByPasskey(ctx context.Context, r hsm.AuthorizeByPasskey) (hsm.AuthorizedVoid, error)
	SignPageKey(ctx context.Context, r hsm.SignPageKey) (hsm.SignedPageKey, error)
}

// Keys finds keys of the inventory; [keys.Inventory] does.
type Keys interface {
	Resolve(ctx context.Context, reference string) (keys.Key, error)
	Used(k keys.Key)
}

// Records counts the tries of PIN records.
type Records interface {
	// Turn waits until no other request of this front tries the PINs of subjects, and returns what
	// ends the turn: more right PINs at once than there are tries would else be taken for wrong
	// ones. Its error is ctx's.
	Turn(ctx context.Context, subjects ...*pinrecord.Subject) (end func(), err error)

	// Attempt counts a try of a subject's PIN for actor, durably. Of a subject whose PIN cannot be
	// tried there is an attempt as well, so that nobody learns which subjects there are.
	Attempt(ctx context.Context, actor string, subject *pinrecord.Subject) (Attempt, error)

	// Passkey returns the passkey at origin of the subject with a digest, for a void. Of a subject that
	// has none there is one as well.
	Passkey(ctx context.Context, subject []byte, f *voidtoken.Fields, origin string) (Passkey, error)
}

// Passkey is what an assertion is verified with.
type Passkey interface {
	Sealed() []byte // pinrecord.PasskeyRecord; a module is asked with it once
	Owner() string  // as the token names who has approved
	Settle(verified bool, err error) (bool, error)
}

// Attempt is a try that has been counted.
type Attempt interface {
	// Sealed is what a module is asked with, once.
	Sealed() hsm.RecordPIN

	// Settle ends the attempt by what a module has answered, and returns what may be told.
	Settle(ctx context.Context, verified bool, err error) (bool, error)
}

// Authorities say whose signatures count; [keys.Ceremonies] does.
type Authorities interface {
	Anchors(use string) (trust.Anchors, error)
}

// Config is what a service is made of. Everything is needed.
type Config struct {
	Store       store.Voids
	Used        *keyuse.Keys // that requests name
	Keys        Keys         // that the policy names
	Records     Records
	Authorities Authorities
	Modules     Modules

	// Settings returns what the policy that a request is judged by says of voids, nil for nothing.
	Settings func(ctx context.Context) *policies.Voids
}

// Service keeps void requests in a database. It is safe for concurrent use, also by several
// processes; what it remembers is who watches, whose turn it is, and what modules have signed for some minutes.
type Service struct {
	Config

	clock    func() time.Time
	watchers watchers
	pageKeys pageKeys
	turns    turns.Turns // by void
}

// New returns the service.
func New(c Config) *Service { return &Service{Config: c, clock: time.Now} }

func (s *Service) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// requestOf makes one identifier of who asks, for what, and by which request: of one or, where a
// request is several events, of the one with that number.
func requestOf(actor, action, request string, event byte) (digest [sha256.Size]byte) {
	b := []byte("keyd void request 1\x00")
	for _, text := range []string{actor, action, request} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	return sha256.Sum256(append(b, event))
}

// eventOf is requestOf as events have it.
func eventOf(actor, action, request string, event byte) string {
	digest := requestOf(actor, action, request, event)
	return hex.EncodeToString(digest[:])
}

func checkRequest(id string) error {
	if !voidtoken.ValidName(id) {
		return keyuse.Invalid("request_id has 1 to 64 letters, digits and ._-, the first a letter or a digit")
	}
	return nil
}

// refused turns an error of the store into a refusal.
func refused(ctx context.Context, err error) error {
	ended := ctx.Err()
	var f *fault.Error
	switch {
	case ended != nil && errors.Is(context.Cause(ctx), errNotKept): // the caller may still wait
		return fault.Wrap(fault.StoreUnavailable, err)
	case ended != nil && errors.Is(err, ended):
		return ended
	case errors.As(err, &f):
		return err
	case errors.Is(err, store.ErrNotFound):
		return fault.New(fault.VoidNotFound, "")
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrExists):
		return fault.New(fault.Conflict, "send the same request again")
	}
	return fault.Wrap(fault.StoreUnavailable, err)
}

// pair returns a key pair that the policy names.
func (s *Service) pair(ctx context.Context, reference, what string) (keys.Key, error) {
	k, err := s.Keys.Resolve(ctx, reference)
	if err == nil {
		err = k.CheckUsable(s.now())
	}
	if err != nil && ctx.Err() == nil && fault.Of(err).Unwrap() == nil {
		err = fault.New(fault.Of(err).Reason, "the key "+reference+", which the policy names for "+what+": have officers make it (usage S0), or name another in the policy")
	}
	return k, err
}

// tokenPair returns the key pair that signs void tokens, which a module has to have: without it no
// void can be authorised.
func (s *Service) tokenPair(ctx context.Context, settings *policies.Voids) (keys.Key, voidtoken.Keys, error) {
	k, err := s.pair(ctx, settings.TokenKey, "void tokens")
	if err != nil {
		return k, voidtoken.Keys{}, err
	}
	public, err := publicOf(&k)
	if err != nil {
		return k, voidtoken.Keys{}, err
	}
	known, err := voidtoken.NewKeys(public)
	if err != nil {
		err = fault.New(fault.KeyUsageMismatch, "void tokens are signed with a key pair of usage S0 on P-256 or P-384")
	}
	return k, known, err
}

// afterwards is for what has to be kept although the caller is gone.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), keepTimeout, errNotKept)
}

const keepTimeout = 5 * time.Second

// errNotKept is why the time of [afterwards] is over.
var errNotKept = errors.New("it could not be kept in time")
