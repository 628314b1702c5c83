package simulator

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
)

// over shows what a void came to, and forgets it.
func (v *voiding) over(void *keydv1.Void) error {
	if err := v.Device.keepVoid(nil); err != nil {
		return err
	}
	if void.GetState() != keydv1.Void_CONFIRMED {
		v.show("  %s", v.why(void))
		v.show("  → %s", v.next(void.GetNext()))
		return &NotVoided{proto.CloneOf(void)}
	}
	v.step(7, v.say(textVoided))
	v.slip(void)
	v.step(8, v.next(void.GetNext()))
	return nil
}

// slip prints what the customer and the shop keep.
func (v *voiding) slip(void *keydv1.Void) {
	line := strings.Repeat("-", 40)
	v.show("%s\n%s\n%s  %s\n%s  %s", line, v.say(textSlip), v.say(textMerchant), printable(void.GetMerchant()), v.say(textPayment), masked(void.GetReference()))
	v.show("%s  -%s", v.say(textAmount), voidtoken.Currency(void.GetCurrency()).Format(void.GetAmount()))
	for _, a := range void.GetAuthorizations() {
		v.show("%s  %s %s", v.say(textBy), a.GetMethod(), printable(a.GetSubject()))
	}
	v.show("%s  %s\n%s  %s UTC\n%s", v.say(textVoid), printable(void.GetVoidId()), v.say(textTime), void.GetChangedAt().AsTime().Format(time.DateTime), line)
}

// masked is a reference as a display shows it: its end.
func masked(reference string) string {
	shown := min(4, len(reference)/2)
	return strings.Repeat("*", len(reference)-shown) + printable(reference[len(reference)-shown:])
}
