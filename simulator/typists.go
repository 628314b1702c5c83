package simulator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// SupervisorRegister is the initial key of supervisors' PINs, by its name in the key set; PINRegister
// that of cardholders'.
const (
	SupervisorRegister = "supervisor"
	PINRegister        = "pin"
)

// Typists are those who can type a PIN at a terminal, and under which keys they do.
type Typists struct {
	Supervisor string           // name; empty: there is none in the shop
	OfTerminal bool             // the supervisor's PIN is for this terminal; else for every one of the merchant
	PAN        string           // of the card that the terminal has read; empty: none
	Format     *pinblock.Format // of the blocks; nil: 4 under AES, 0 under TDES
	Session    bool             // a cardholder's PIN under the keys of the last sign-in
}

// ErrSessionRecord is returned for a supervisor's PIN where there are session keys alone.
var ErrSessionRecord = errors.New("a session key carries no supervisor's PIN: it has no pin_kind, by which keyd tells such PINs apart. Take the initial key \"supervisor\" (without --session)")

// fieldsOf are what the display shows of a void and its digest is over.
func (v *voiding) fieldsOf(void *keydv1.Void) (f voidtoken.Fields, digest [sha256.Size]byte, err error) {
	f = voidtoken.Fields{
		Void: void.GetVoidId(), Merchant: void.GetMerchant(), Terminal: void.GetTerminal(), Reference: void.GetReference(), Amount: void.GetAmount(), Currency: voidtoken.Currency(void.GetCurrency()),
	}
	switch d := v.Direct; {
	case f.Void != v.under.Void:
		return f, digest, errors.New("the answer is about another void")
	case f.Terminal != v.terminal:
		return f, digest, fmt.Errorf("the code is for terminal %s, and this one is %s: scan it there", printable(f.Terminal), v.terminal)
	case d != nil && (f.Merchant != d.Facts.Merchant || f.Amount != d.Facts.Amount || void.GetCurrency() != d.Facts.Currency):
		return f, digest, errors.New("the void has another merchant, amount or currency than was named")
	}
	digest, err = f.Digest()
	return f, digest, err
}

// methods returns the first set that suffices and can be typed here, nil for none.
func (v *voiding) methods(void *keydv1.Void) []keydv1.VoidMethod {
	can := func(m keydv1.VoidMethod) bool {
		return m == keydv1.VoidMethod_SUPERVISOR_PIN && v.Supervisor != "" || m == keydv1.VoidMethod_CARDHOLDER_PIN && v.PAN != ""
	}
	for _, set := range void.GetMethods() {
		if list := set.GetMethods(); len(list) > 0 && !slices.ContainsFunc(list, func(m keydv1.VoidMethod) bool { return !can(m) }) {
			return list
		}
	}
	return nil
}

// setsOf names the sets that suffice.
func setsOf(void *keydv1.Void) (sets []string) {
	for _, set := range void.GetMethods() {
		var names []string
		for _, m := range set.GetMethods() {
			names = append(names, m.String())
		}
		sets = append(sets, strings.Join(names, "+"))
	}
	return sets
}

// ask shows the amount, has the PINs typed and the void confirmed, and sends it.
func (v *voiding) ask(ctx context.Context, void *keydv1.Void) (*keydv1.Void, error) {
	fields, digest, err := v.fieldsOf(void)
	if err != nil {
		return nil, err
	}
	v.step(4, v.say(textLook))
	v.show("  %s  %s", v.say(textMerchant), fields.Merchant)
	v.show("  %s  %s", v.say(textPayment), masked(fields.Reference))
	v.show("  %s  %s", v.say(textAmount), fields.Currency.Format(fields.Amount))
	methods := v.methods(void)
	if methods == nil {
		sets := setsOf(void)
		v.show("  %s", v.say(textNeeds, strings.Join(sets, v.or())))
		if !slices.Contains(sets, keydv1.VoidMethod_REMOTE_APPROVAL.String()) {
			return nil, fmt.Errorf("nobody at this terminal types what the void takes (%s): name the supervisor, and the card", strings.Join(sets, " or "))
		}
		return v.wait(ctx, void, textElsewhere)
	}
	if v.Session && slices.Contains(methods, keydv1.VoidMethod_SUPERVISOR_PIN) {
		return nil, ErrSessionRecord
	}
	request := &keydv1.AuthorizeVoidRequest{RequestId: newRequest(), VoidId: fields.Void}
	if v.Direct != nil {
		request.Payment = v.Direct.Facts
	}
	for _, m := range methods {
		entry, err := v.typed(m, fields, digest)
		if err != nil {
			return nil, err
		}
		if entry == nil {
			return v.cancel(ctx)
		}
		request.Pins = append(request.Pins, entry)
	}
	v.step(6, v.say(textConfirm))
	yes, err := v.Confirm()
	if err != nil {
		return nil, err
	}
	if !yes {
		return v.cancel(ctx)
	}
	if v.under.Authorize, err = proto.Marshal(request); err != nil {
		return nil, err
	}
	if err := v.Device.keepVoid(&v.under); err != nil {
		return nil, err
	}
	return v.send(ctx, request)
}

// typed has a PIN typed and bound to the void; nil for Cancel. The PIN is gone from memory when typed
// returns.
func (v *voiding) typed(m keydv1.VoidMethod, fields voidtoken.Fields, digest [sha256.Size]byte) (*keydv1.VoidPinEntry, error) {
	label, number := textCardholder, v.PAN
	under := Under{Register: PINRegister, Session: v.Session}
	entry := new(keydv1.VoidPinEntry)
	if m == keydv1.VoidMethod_SUPERVISOR_PIN {
		s := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: fields.Merchant, Name: v.Supervisor}
		if v.OfTerminal {
			s.Terminal = v.terminal
		}
		if err := s.Validate(); err != nil {
			return nil, err
		}
		label, number, under.Register = textSupervisor, s.Number(), SupervisorRegister
		entry.Whose = &keydv1.VoidPinEntry_Supervisor{Supervisor: &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: s.Merchant, Terminal: s.Terminal, Name: s.Name}}
	} else {
		c := new(keydv1.CardholderPin) // the switch has the rest
		if v.Direct != nil && v.Direct.Cardholder != nil {
			c = proto.CloneOf(v.Direct.Cardholder)
		}
		entry.Whose = &keydv1.VoidPinEntry_Cardholder{Cardholder: c}
	}
	format, err := v.format(under)
	if err != nil {
		return nil, err
	}
	v.step(5, v.say(label))
	pin, err := v.Type()
	defer clear(pin)
	if err != nil || len(pin) == 0 {
		return nil, err
	}
	sent, err := v.Device.Send(under, Message{Format: format, PAN: number, PIN: pin, Bind: func(block []byte, dukpt bool) []byte { return pinrecord.Bound(digest, block, dukpt) }})
	if err != nil {
		return nil, err
	}
	entry.Incoming, entry.EncryptedPinBlock, entry.MacKey, entry.Mac = sent.PINKey, sent.PINBlock, sent.MACKey, sent.MAC
	return entry, nil
}

// format is that of the blocks under a key.
func (v *voiding) format(under Under) (f pinblock.Format, err error) {
	if v.Format != nil {
		return *v.Format, nil
	}
	err = v.Device.view(func(s *deviceState) error {
		if s.Current == nil {
			return errNoKeys
		}
		aes := s.Current.Master.Algorithm == "A"
		if r := s.Current.register(under.Register); r != nil && !under.Session {
			t, err := software.UnmarshalTerminalState(r.DUKPT)
			if err != nil {
				return err
			}
			defer t.Destroy()
			aes = t.Scheme() == dukpt.AES
		}
		if f = pinblock.ISO0; aes {
			f = pinblock.ISO4
		}
		return nil
	})
	return f, err
}
