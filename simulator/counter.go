package simulator

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voids/flow"
)

// Counter is a terminal at the counter of a shop, at which a payment is voided in the eight steps of
// docs/merchant.md. Everything above Payment is needed.
type Counter struct {
	Device   *Device
	Service  keydv1.VoidServiceClient // of the switch; of keyd where Direct is set
	Connect  func(context.Context) error
	Timeout  time.Duration // of one call
	Patience time.Duration // how long the same is sent again where nobody answers
	Display  io.Writer
	Language string // of [Languages]

	// What a person does. A PIN is wiped; an empty one is Cancel.
	Scan    func() (code string, err error)
	Type    func() (pin []byte, err error)
	Confirm func() (bool, error)

	Payment string // reference of a payment that is found on the terminal; empty: its code comes from elsewhere
	Phone   bool   // the code of Payment is shown for a supervisor's phone, and approved there
	Typists

	Direct *Direct               // nil with a switch
	At     func(step Step) error // called before an authorisation is sent and after its answer, to stop there
}

// Direct is what a switch does, where the terminal talks to keyd itself.
type Direct struct {
	Facts      *keydv1.PaymentFacts
	Cardholder *keydv1.CardholderPin    // what the cardholder's PIN is verified by
	Token      func(token string) error // takes the void token
}

// NotVoided is the error of a void that came to another end. Its display has said what to do.
type NotVoided struct{ Void *keydv1.Void }

// Error says what the void came to.
func (e *NotVoided) Error() string {
	state := "no void was made"
	if e.Void.GetVoidId() != "" {
		state = "the void is " + strings.ToLower(e.Void.GetState().String())
	}
	return fmt.Sprintf("the payment was not voided: %s (%s)", state, printable(strings.TrimSpace(e.Void.GetResult()+" "+e.Void.GetRefusal())))
}

// voiding is one void at a counter.
type voiding struct {
	*Counter
	language

	terminal string
	under    voidUnderWay
}

// Run goes through the eight steps, or goes on with the void that was not over when the terminal was
// stopped. It returns nil when the payment is voided, [NotVoided] when it is not, and the error of a
// call that was refused or had no answer; what the terminal has sent is in its file then.
func (c *Counter) Run(ctx context.Context) error {
	l, err := languageNamed(c.Language)
	if err != nil {
		return err
	}
	v := &voiding{Counter: c, language: l}
	info, err := c.Device.Info()
	if err != nil {
		return err
	}
	v.terminal = info.Terminal
	if v.under, err = c.Device.voidUnderWay(); err != nil {
		return err
	}
	if err := c.Connect(ctx); err != nil {
		return err
	}
	v.step(1, v.say(textOn))
	if v.under.Void != "" {
		void, err := answered(ctx, v, func(ctx context.Context) (*keydv1.Void, error) {
			return c.Service.GetVoid(ctx, &keydv1.GetVoidRequest{VoidId: v.under.Void})
		})
		if err == nil {
			v.step(2, v.say(textUnfinished))
			return v.goOn(ctx, void)
		}
		if status.Code(err) != codes.NotFound {
			return err
		}
		v.under = voidUnderWay{} // another service: nobody finishes it
	}
	void, err := v.begin(ctx)
	if err != nil {
		return err
	}
	return v.goOn(ctx, void)
}

func (v *voiding) show(format string, a ...any) {
	fmt.Fprintf(v.Display, format+"\n", a...) //nolint:errcheck // a display that is gone stops no void
}

func (v *voiding) step(n int, what string) { v.show("%d %s: %s", n, steps[n-1][v.language], what) }

func newRequest() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// answered makes a call. Where nobody answers, the same is sent again for as long as patience allows.
func answered[A any](ctx context.Context, v *voiding, call func(context.Context) (A, error)) (answer A, err error) {
	end, pause := time.Now().Add(v.Patience), 100*time.Millisecond
	for {
		once, cancel := context.WithTimeout(ctx, v.Timeout)
		answer, err = call(once)
		cancel()
		away := status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded
		if err == nil || !away || ctx.Err() != nil || time.Now().After(end) {
			return answer, err
		}
		v.show("  %s", v.say(textNoAnswer))
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

// begin has a code shown or scanned, and burns it, unless a phone does.
func (v *voiding) begin(ctx context.Context) (*keydv1.Void, error) {
	if v.Phone {
		return v.forPhone(ctx)
	}
	text, err := v.code(ctx)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(text))
	if v.Payment == "" && !bytes.Equal(v.under.Code, digest[:]) { // another code than the one that was sent last
		v.under = voidUnderWay{Request: newRequest()}
	}
	v.under.Code = digest[:]
	if err := v.Device.keepVoid(&v.under); err != nil {
		return nil, err
	}
	merchant := ""
	if v.Direct != nil {
		merchant = v.Direct.Facts.Merchant
	}
	void, err := answered(ctx, v, func(ctx context.Context) (*keydv1.Void, error) {
		return v.Service.ScanVoid(ctx, &keydv1.ScanVoidRequest{RequestId: v.under.Request, Code: text, Merchant: merchant})
	})
	if err != nil {
		if status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded {
			return nil, err // it may be burnt: the same request again
		}
		v.show("  → %s", v.next([]string{string(flow.NewVoid)}))
		return nil, errors.Join(err, v.Device.keepVoid(nil))
	}
	v.under.Void = void.GetVoidId()
	if err := v.Device.keepVoid(&v.under); err != nil {
		return nil, err
	}
	v.step(3, v.say(textScanned))
	return void, nil
}

// code is scanned, or that of a payment which is found on the terminal.
func (v *voiding) code(ctx context.Context) (string, error) {
	if v.Payment == "" {
		v.step(2, v.say(textScan))
		return v.Scan()
	}
	made, err := v.create(ctx)
	if err != nil {
		return "", err
	}
	return made.GetCode(), v.draw(made.GetCode())
}

// goOn brings a void to its end from wherever it is.
func (v *voiding) goOn(ctx context.Context, void *keydv1.Void) error {
	for {
		kept, err := v.under.request()
		if err != nil {
			return err
		}
		shown := v.under.Phone && void.GetState() == keydv1.Void_CREATED
		live := shown || void.GetState() == keydv1.Void_SCANNED || void.GetState() == keydv1.Void_AUTHORIZED
		switch {
		case !live:
			return v.over(void)
		case shown:
			void, err = v.wait(ctx, void, textPhone)
		case kept != nil: // confirmed before: the same request, which gets the same answer
			void, err = v.send(ctx, kept)
		case void.GetState() == keydv1.Void_SCANNED:
			void, err = v.ask(ctx, void)
		default:
			void, err = v.wait(ctx, void, textWait)
		}
		if err != nil {
			return err
		}
	}
}

// send sends an authorisation that is in the file, and waits if it has authorised the void.
func (v *voiding) send(ctx context.Context, request *keydv1.AuthorizeVoidRequest) (*keydv1.Void, error) {
	if err := v.at(BeforeSend); err != nil {
		return nil, err
	}
	v.show("  %s", v.say(textSending))
	a, err := answered(ctx, v, func(ctx context.Context) (*keydv1.AuthorizeVoidResponse, error) {
		return v.Service.AuthorizeVoid(ctx, request)
	})
	if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded || ctx.Err() != nil {
		return nil, err // it may have been carried out
	}
	if err != nil {
		v.under.Authorize = nil // refused: nothing was done
		return nil, errors.Join(err, v.Device.keepVoid(&v.under))
	}
	if err := v.at(AfterAnswer); err != nil {
		return nil, err
	}
	if v.Direct != nil && a.GetToken() != "" {
		if err := v.Direct.Token(a.GetToken()); err != nil {
			return nil, err
		}
	}
	void := a.GetVoid()
	if void.GetState() == keydv1.Void_AUTHORIZED {
		return v.wait(ctx, void, textWait)
	}
	if void.GetState() != keydv1.Void_SCANNED {
		return void, nil
	}
	v.under.Authorize = nil
	if err := v.Device.keepVoid(&v.under); err != nil {
		return nil, err
	}
	if flow.Result(void.GetResult()) == flow.ResultWrong {
		v.show("  %s", v.say(textWrong, void.GetTriesLeft()))
	} else {
		v.show("  %s", v.why(void))
	}
	v.show("  → %s", v.next(void.GetNext()))
	return void, nil
}

func (v *voiding) at(step Step) error {
	if v.At == nil {
		return nil
	}
	return v.At(step)
}

// wait follows a void until it is over.
func (v *voiding) wait(ctx context.Context, void *keydv1.Void, what text) (*keydv1.Void, error) {
	v.step(7, v.say(what))
	for {
		stream, err := v.Service.WatchVoid(ctx, &keydv1.WatchVoidRequest{VoidId: void.GetVoidId()})
		for err == nil {
			var seen *keydv1.Void
			if seen, err = stream.Recv(); err == nil {
				void = seen
				err = v.collect(ctx, void)
			}
		}
		if errors.Is(err, io.EOF) {
			return void, nil
		}
		if status.Code(err) != codes.Unavailable || ctx.Err() != nil {
			return nil, err
		}
		v.show("  %s", v.say(textNoAnswer))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// cancel gives the void up.
func (v *voiding) cancel(ctx context.Context) (*keydv1.Void, error) {
	request := &keydv1.CancelVoidRequest{RequestId: newRequest(), VoidId: v.under.Void}
	return answered(ctx, v, func(ctx context.Context) (*keydv1.Void, error) { return v.Service.CancelVoid(ctx, request) })
}
