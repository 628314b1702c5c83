package simulator

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voids/flow"
)

// Every language has every text, and every state and result comes to one.
func TestDisplaysSayEverything(t *testing.T) {
	for at, name := range Languages {
		l, err := languageNamed(name)
		if err != nil || int(l) != at {
			t.Fatalf("%s: %v", name, err)
		}
		foreign := func(s string) bool { // English has no Chinese in it, Chinese no plain English
			han := strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) })
			return s == "" || han == (name == "en")
		}
		for key, both := range texts {
			if foreign(both[l]) || strings.Count(both[l], "%") != strings.Count(both[0], "%") {
				t.Errorf("%s: %s is %q", name, key, both[l])
			}
		}
		for n := range steps {
			if foreign(steps[n][l]) {
				t.Errorf("%s: step %d is %q", name, n+1, steps[n][l])
			}
		}
		for _, next := range flow.Nexts() {
			if said := l.next([]string{string(next)}); foreign(said) {
				t.Errorf("%s: %s is %q", name, next, said)
			}
		}
		if said := l.next([]string{"SOMETHING_NEWER", "GO_ON"}); said != l.next([]string{"GO_ON"}) {
			t.Errorf("%s: what it does not know is %q", name, said)
		}
		for state := range keydv1.Void_State_name {
			for _, result := range flow.Results() {
				if said := l.why(&keydv1.Void{State: keydv1.Void_State(state), Result: string(result)}); foreign(said) || strings.Contains(said, "%!") {
					t.Errorf("%s: %v, %s is %q", name, keydv1.Void_State(state), result, said)
				}
			}
		}
		for _, refusal := range flow.Refusals() {
			if said := l.why(&keydv1.Void{Refusal: string(refusal)}); foreign(said) || strings.Contains(said, "%!") {
				t.Errorf("%s: %s is %q", name, refusal, said)
			}
		}
	}
	if _, err := languageNamed("xx"); err == nil {
		t.Error("a language that no display has")
	}
	for reference, want := range map[string]string{"": "", "1": "*", "12": "*2", "pay-0001": "****0001", "112700123456": "********3456", "a\nb\x1b[31": "****[31"} {
		if got := masked(reference); got != want {
			t.Errorf("%q is shown as %q, want %q", reference, got, want)
		}
	}
}

// elsewhere is a service that may answer what keyd never does. The real one is met in e2e.
type elsewhere struct {
	keydv1.VoidServiceClient
	scanned *keydv1.Void
	asked   []*keydv1.AuthorizeVoidRequest
	answer  func(n int) (*keydv1.AuthorizeVoidResponse, error)
}

func (e *elsewhere) ScanVoid(context.Context, *keydv1.ScanVoidRequest, ...grpc.CallOption) (*keydv1.Void, error) {
	return e.scanned, nil
}

func (e *elsewhere) GetVoid(context.Context, *keydv1.GetVoidRequest, ...grpc.CallOption) (*keydv1.Void, error) {
	return e.scanned, nil
}

func (e *elsewhere) AuthorizeVoid(_ context.Context, r *keydv1.AuthorizeVoidRequest, _ ...grpc.CallOption) (*keydv1.AuthorizeVoidResponse, error) {
	e.asked = append(e.asked, r)
	return e.answer(len(e.asked))
}

const someVoid = "00112233445566778899aabbccddeeff"

func scannedVoid() *keydv1.Void {
	return &keydv1.Void{
		VoidId: someVoid, Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: 12300, Currency: 156, State: keydv1.Void_SCANNED,
		Methods: []*keydv1.VoidMethods{{Methods: []keydv1.VoidMethod{keydv1.VoidMethod_CARDHOLDER_PIN}}},
	}
}

// at is a counter at which a cardholder types.
func at(t *testing.T, d *Device, service keydv1.VoidServiceClient, display io.Writer) (c *Counter, typed *int) {
	t.Helper()
	typed = new(int)
	c = &Counter{
		Device: d, Service: service, Connect: func(context.Context) error { return nil }, Timeout: time.Minute, Patience: time.Minute, Display: display, Language: "en",
		Scan:    func() (string, error) { return "A CODE", nil },
		Type:    func() ([]byte, error) { *typed++; return []byte("4711"), nil },
		Confirm: func() (bool, error) { return true, nil },
		Typists: Typists{PAN: "4564320000980369"},
	}
	return c, typed
}

// A terminal has no PIN typed for a void that is not what it scanned, and takes any answer.
func TestACounterOfAHostileService(t *testing.T) {
	for what, change := range map[string]func(v *keydv1.Void){
		"another terminal":    func(v *keydv1.Void) { v.Terminal = "t-2" },
		"no merchant":         func(v *keydv1.Void) { v.Merchant = "" },
		"a negative amount":   func(v *keydv1.Void) { v.Amount = -1 },
		"no such currency":    func(v *keydv1.Void) { v.Currency = 99999 },
		"no identifier":       func(v *keydv1.Void) { v.VoidId = "" },
		"a short identifier":  func(v *keydv1.Void) { v.VoidId = "00" },
		"another state":       func(v *keydv1.Void) { v.State = 77 },
		"a name that it runs": func(v *keydv1.Void) { v.Merchant = "m\x1b[2J" },
	} {
		d, v, display := withKeys(t, false), scannedVoid(), new(strings.Builder)
		change(v)
		c, typed := at(t, d, &elsewhere{scanned: v}, display)
		if err := c.Run(t.Context()); err == nil || *typed != 0 || strings.Contains(display.String(), "\x1b") {
			t.Errorf("%s: %v, %d PINs were typed\n%q", what, err, *typed, display.String())
		}
	}
	d := withKeys(t, false)
	c, _ := at(t, d, &elsewhere{scanned: nil}, io.Discard)
	if err := c.Run(t.Context()); err == nil {
		t.Error("no void at all is voided")
	}
}

// Where nobody answers the very same request is sent again, also after the terminal was stopped; one
// that was refused is forgotten.
func TestTheSameAuthorizationIsSentAgain(t *testing.T) {
	d := withKeys(t, false)
	over := scannedVoid()
	over.State, over.Result, over.Next = keydv1.Void_CONFIRMED, "CONFIRMED", []string{"GO_ON"}
	e := &elsewhere{scanned: scannedVoid(), answer: func(n int) (*keydv1.AuthorizeVoidResponse, error) {
		if n < 3 {
			return nil, status.Error(codes.Unavailable, "away")
		}
		return nil, status.Error(codes.Unknown, "stopped here")
	}}
	stopped := errors.New("the power is gone")
	c, typed := at(t, d, e, io.Discard)
	c.At = func(s Step) error {
		if s == BeforeSend {
			return stopped
		}
		return nil
	}
	if err := c.Run(t.Context()); !errors.Is(err, stopped) || len(e.asked) != 0 {
		t.Fatalf("%v, %d requests", err, len(e.asked))
	}
	c.At = nil
	e.answer = func(n int) (*keydv1.AuthorizeVoidResponse, error) {
		if n < 3 {
			return nil, status.Error(codes.Unavailable, "away")
		}
		return &keydv1.AuthorizeVoidResponse{Void: over, Verified: true}, nil
	}
	if err := c.Run(t.Context()); err != nil || *typed != 1 || len(e.asked) != 3 {
		t.Fatalf("%v, %d PINs, %d requests", err, *typed, len(e.asked))
	}
	for _, r := range e.asked {
		if r.RequestId != e.asked[0].RequestId || string(r.Pins[0].Mac) != string(e.asked[0].Pins[0].Mac) || len(r.Pins[0].Mac) < 8 {
			t.Error("another request")
		}
	}
	if under, err := d.voidUnderWay(); err != nil || under.Void != "" {
		t.Errorf("it is not over: %+v, %v", under, err)
	}

	refused := status.Error(codes.ResourceExhausted, "RATE_LIMITED")
	e.asked, e.answer = nil, func(int) (*keydv1.AuthorizeVoidResponse, error) { return nil, refused }
	if err := c.Run(t.Context()); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if under, err := d.voidUnderWay(); err != nil || under.Void != someVoid || under.Authorize != nil {
		t.Errorf("after a refusal: %+v, %v", under, err)
	}
	c.Session = true
	c.Supervisor, c.PAN = "dora", ""
	e.scanned.Methods[0].Methods[0] = keydv1.VoidMethod_SUPERVISOR_PIN
	if err := c.Run(t.Context()); !errors.Is(err, ErrSessionRecord) || *typed != 2 {
		t.Errorf("a supervisor's PIN under session keys: %v, %d PINs", err, *typed)
	}
}
