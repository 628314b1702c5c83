package web

import (
	"context"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/passkey"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/voids/code"
)

const host = "void.example.com"

// bank is a backend with the private halves of the modules' keys: it opens and verifies for real what
// phones send, by the packages that modules do it with. It counts tries, and answers what was answered
// before alike.
type bank struct {
	t       testing.TB
	codeKey *ecdsa.PrivateKey
	pageKey *ecdh.PrivateKey

	lock     sync.Mutex
	pins     map[[32]byte]string             // by subject
	passkeys map[[32]byte]passkey.Credential // by user handle
	voids    map[string]*testVoid            // by code
	links    map[string]*testLink
	answered map[string]*Outcome // by block or signature
	asked    []string            // methods, in order
	fail     []error             // the next answers; nil is none
	lose     int                 // answers that are carried out and then lost
	hold     chan struct{}       // closed: nothing waits
	from     string              // whom the last request was from
}

type testVoid struct {
	Void
	tries  int
	result string // of whatever is tried, where it is not verified and costs nothing
}

type testLink struct {
	subject  pinrecord.Subject
	approval [32]byte
	code     string
	tries    int
	expires  time.Time
	lie      func(*Enrolment)
}

func newBank(t testing.TB) *bank {
	t.Helper()
	codeKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	pageKey, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	hold := make(chan struct{})
	close(hold)
	return &bank{
		t: t, codeKey: codeKey, pageKey: pageKey, hold: hold,
		pins: map[[32]byte]string{}, passkeys: map[[32]byte]passkey.Credential{}, voids: map[string]*testVoid{}, links: map[string]*testLink{}, answered: map[string]*Outcome{},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newVoid makes a void, and returns its code.
func (b *bank) newVoid(change func(*Void)) string {
	b.t.Helper()
	audience, err := code.AudienceOf("m-17")
	must(b.t, err)
	expires := time.Now().Add(2 * time.Minute)
	p, err := code.Sign(&b.codeKey.PublicKey, code.SignerOf(b.codeKey), code.Code{Identifier: code.NewIdentifier(), Expiry: expires, Audience: audience})
	must(b.t, err)
	v := &testVoid{tries: 3, Void: Void{
		Merchant: "m-17", Terminal: "t-1", Reference: "…0042", Amount: 12345, Currency: "CNY", Digits: 2, PaidAt: time.Now().Add(-time.Hour), ExpiresAt: expires, State: "CREATED", Next: []string{"SCAN"},
		Digest: make([]byte, 32), Passkey: true, PIN: true, Key: b.signedKey(time.Now().Add(10 * time.Minute)), CodeKey: b.publicKey(),
	}}
	_, _ = rand.Read(v.Digest)
	challenge := pinrecord.VoidChallenge([32]byte(v.Digest))
	v.Challenge = challenge[:]
	if change != nil {
		change(&v.Void)
	}
	b.lock.Lock()
	defer b.lock.Unlock()
	b.voids[p.Text()] = v
	return p.Text()
}

// newLink makes a link for a subject, whose code is 40718293.
func (b *bank) newLink(s pinrecord.Subject) string {
	l := &testLink{subject: s, code: "40718293", tries: 3, expires: time.Now().Add(time.Hour)}
	_, _ = rand.Read(l.approval[:])
	link := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(l.approval[:16])
	b.lock.Lock()
	defer b.lock.Unlock()
	b.links[link] = l
	return link
}

func (b *bank) publicKey() []byte {
	der, err := x509.MarshalPKIXPublicKey(&b.codeKey.PublicKey)
	must(b.t, err)
	return der
}

// signedKey is the page key as a module signs it.
func (b *bank) signedKey(expires time.Time) *PageKey {
	k := &PageKey{Point: b.pageKey.PublicKey().Bytes(), ExpiresAt: expires.Unix()}
	digest := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte(hsm.PageKeyText), k.Point...), uint64(k.ExpiresAt)))
	r, s, err := ecdsa.Sign(rand.Reader, b.codeKey, digest[:])
	must(b.t, err)
	k.Signature = make([]byte, 64)
	r.FillBytes(k.Signature[:32])
	s.FillBytes(k.Signature[32:])
	return k
}

// open opens a block as a module does.
func (b *bank) open(typed Typed, s *pinrecord.Subject, context pinrecord.Context) (string, error) {
	phone, err := pinrecord.PhonePoint(typed.Point)
	if err != nil {
		return "", fault.New(fault.RequestInvalid, "")
	}
	z, err := b.pageKey.ECDH(phone)
	if err != nil {
		return "", fault.New(fault.RequestInvalid, "")
	}
	key := make([]byte, pinrecord.PhoneKeySize)
	pinrecord.PhoneKey(key, z, b.pageKey.PublicKey(), phone, context)
	cipher, err := aes.NewCipher(key)
	must(b.t, err)
	pan, err := pinblock.ParsePAN(s.Number())
	must(b.t, err)
	field := make([]byte, 16)
	cipher.Decrypt(field, typed.Block)
	must(b.t, pan.XORField4(field))
	cipher.Decrypt(field, field)
	var pin pinblock.PIN
	if err := pinblock.Decode(&pin, pinblock.ISO4, field, pan); err != nil {
		return "", fault.New(fault.PINBlockInvalid, "")
	}
	digits := make([]byte, pin.Len())
	for i := range digits {
		digits[i] = '0' + pin.Digit(i)
	}
	return string(digits), nil
}

// begin notes what is asked, and waits or fails as a test wants.
func (b *bank) begin(ctx context.Context, method string) error {
	b.lock.Lock()
	b.asked = append(b.asked, method)
	b.from = AddressOf(ctx).String()
	var err error
	if len(b.fail) > 0 {
		err, b.fail = b.fail[0], b.fail[1:]
	}
	hold := b.hold
	b.lock.Unlock()
	select {
	case <-hold:
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}

// lost is the answer that a test has lost on its way, or nil.
func (b *bank) lost() error {
	if b.lose > 0 {
		b.lose--
		return fault.New(fault.ModuleUnavailable, "")
	}
	return nil
}

func (b *bank) Void(ctx context.Context, text string) (*Void, error) {
	if err := b.begin(ctx, "Void"); err != nil {
		return nil, err
	}
	b.lock.Lock()
	defer b.lock.Unlock()
	v, err := b.find(text)
	if err != nil {
		return nil, err
	}
	shown := v.Void
	return &shown, nil
}

func (b *bank) find(text string) (*testVoid, error) {
	v := b.voids[text]
	if v == nil {
		return nil, fault.New(fault.VoidCodeRefused, "why is said to nobody")
	}
	return v, nil
}

func (b *bank) ApproveByPasskey(ctx context.Context, text string, a ByPasskey) (*Outcome, error) {
	if err := b.begin(ctx, "ApproveByPasskey"); err != nil {
		return nil, err
	}
	return b.approve(text, string(a.Signature), func(v *testVoid) (bool, error) {
		c, ok := b.passkeys[[32]byte(a.User)]
		return ok && c.Verify(&a.Assertion, pinrecord.VoidChallenge([32]byte(v.Digest))) == nil, nil
	})
}

func (b *bank) ApproveByPIN(ctx context.Context, text string, p ByPIN) (*Outcome, error) {
	if err := b.begin(ctx, "ApproveByPIN"); err != nil {
		return nil, err
	}
	return b.approve(text, string(p.Block), func(v *testVoid) (bool, error) {
		s := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: v.Merchant, Name: p.Name}
		if p.OfTerminal {
			s.Terminal = v.Terminal
		}
		pin, err := b.open(p.Typed, &s, pinrecord.OfVoid([32]byte(v.Digest), &s))
		return err == nil && pin == b.pins[s.Digest()], err
	})
}

func (b *bank) approve(text, request string, verified func(*testVoid) (bool, error)) (*Outcome, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	if o := b.answered[text+request]; o != nil {
		return o, b.lost()
	}
	v, err := b.find(text)
	if err != nil {
		return nil, err
	}
	if v.State != "CREATED" {
		return nil, fault.New(fault.VoidCodeRefused, "")
	}
	if v.result != "" {
		return &Outcome{State: v.State, Result: v.result, TriesLeft: v.tries}, nil
	}
	ok, err := verified(v)
	if err != nil {
		return nil, err
	}
	o := &Outcome{Verified: ok, Result: "AUTHORIZED"}
	if ok {
		v.State = "AUTHORIZED"
	} else if o.Result, v.tries = "NOT_VERIFIED", v.tries-1; v.tries == 0 {
		o.Result, v.State = "TRIES_USED_UP", "DECLINED"
	}
	o.State, o.TriesLeft = v.State, v.tries
	b.answered[text+request] = o
	return o, b.lost()
}

// calls returns what was asked, and forgets it.
func (b *bank) calls() (methods []string) {
	b.lock.Lock()
	defer b.lock.Unlock()
	methods, b.asked = b.asked, nil
	return methods
}
