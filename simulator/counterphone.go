package simulator

import (
	"context"
	"errors"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voids/code"
)

// errNoPage is what a terminal says that is to show a code for a phone, and gets none.
var errNoPage = errors.New("the code has no address that a phone could open: keyd's policy needs voids.phone and code_host")

// forPhone shows the code of a payment as an address, which a supervisor's phone opens and burns.
func (v *voiding) forPhone(ctx context.Context) (*keydv1.Void, error) {
	made, err := v.create(ctx)
	if err != nil {
		return nil, err
	}
	if made.GetCodeUrl() == "" {
		return nil, errors.Join(errNoPage, v.Device.keepVoid(nil))
	}
	v.under.Void, v.under.Phone = made.GetVoid().GetVoidId(), true
	if err := v.Device.keepVoid(&v.under); err != nil {
		return nil, err
	}
	if err := v.draw(made.GetCodeUrl()); err != nil {
		return nil, err
	}
	v.show("  %s", printable(made.GetCodeUrl()))
	v.step(3, v.say(textOnPhone))
	return made.GetVoid(), nil
}

// create makes the void of a payment that is found on the terminal, or finds the one that an earlier
// request has made.
func (v *voiding) create(ctx context.Context) (*keydv1.CreateVoidResponse, error) {
	if v.under.Payment != v.Payment {
		v.under = voidUnderWay{Request: newRequest(), Payment: v.Payment}
	}
	if err := v.Device.keepVoid(&v.under); err != nil {
		return nil, err
	}
	request := &keydv1.CreateVoidRequest{RequestId: v.under.Request, Terminal: v.terminal, Reference: v.Payment}
	if d := v.Direct; d != nil {
		request.Merchant, request.Amount, request.Currency, request.Payment = d.Facts.Merchant, d.Facts.Amount, d.Facts.Currency, d.Facts
	}
	made, err := answered(ctx, v, func(ctx context.Context) (*keydv1.CreateVoidResponse, error) {
		return v.Service.CreateVoid(ctx, request)
	})
	if err != nil {
		return nil, err
	}
	if made.GetCode() == "" {
		return nil, v.over(made.GetVoid())
	}
	return made, nil
}

// draw shows a code on the display.
func (v *voiding) draw(text string) error {
	symbol, err := code.NewSymbol(text)
	if err != nil {
		return err
	}
	drawn, err := symbol.Terminal(code.TerminalStyle{})
	if err != nil {
		return err
	}
	v.step(2, v.say(textFind))
	v.show("%s", drawn)
	return nil
}

// collect gets the token of a void that somebody elsewhere has authorised, where the terminal talks to
// keyd itself. A switch does that for its terminals.
func (v *voiding) collect(ctx context.Context, void *keydv1.Void) error {
	if v.Direct == nil || v.under.Authorize != nil || void.GetState() != keydv1.Void_AUTHORIZED {
		return nil
	}
	a, err := v.Service.GetVoidToken(ctx, &keydv1.GetVoidTokenRequest{VoidId: void.GetVoidId()})
	if err != nil {
		return err
	}
	return v.Direct.Token(a.GetToken())
}
