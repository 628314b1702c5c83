package flow

import (
	"slices"

	"keyd/voidtoken"
)

// Answer is whether something is so. The zero value is that nobody has looked, which never lets
// anything pass.
type Answer uint8

// The answers.
const (
	Unknown Answer = iota
	No
	Yes
)

// Facts are what is known of a payment, at the moment at which it is decided on. Each has to be
// said: a fact that is missing is no permission.
type Facts struct {
	Merchant string             // whose payment it is
	Amount   int64              // of the payment, minor units
	Currency voidtoken.Currency // of the payment
	PaidAt   int64              // Unix seconds
	Settled  Answer             // the payment went into settlement
	Voided   Answer             // the payment was reversed
	Live     Answer             // another void of the payment is CREATED, SCANNED or AUTHORIZED

	// VoidsToday are the merchant's other voids of this business day that are live or CONFIRMED.
	VoidsToday *int
}

// ahead is how far the clock of whoever took the payment may be ahead, in seconds.
const ahead = 30

// Refusal is why a payment may not be voided.
type Refusal string

// The refusals, in the order in which they are looked for.
const (
	FactsMissing       Refusal = "FACTS_MISSING"        // the caller's fault: something was not said, or cannot be
	MerchantNotAllowed Refusal = "MERCHANT_NOT_ALLOWED" // there are no limits for the merchant
	MerchantDiffers    Refusal = "MERCHANT_DIFFERS"     // the payment is another merchant's
	CurrencyDiffers    Refusal = "CURRENCY_DIFFERS"     // from the payment's, or from that of the limits
	AmountDiffers      Refusal = "AMOUNT_DIFFERS"       // a void is of the whole payment
	AlreadyVoided      Refusal = "ALREADY_VOIDED"
	AnotherVoid        Refusal = "ANOTHER_VOID" // one live void for each payment
	Settled            Refusal = "SETTLED"      // a refund is what remains
	NotSameDay         Refusal = "NOT_SAME_DAY" // likewise
	TooOld             Refusal = "TOO_OLD"      // likewise
	AboveLimit         Refusal = "ABOVE_LIMIT"  // the amount is above the last tier
	TooManyToday       Refusal = "TOO_MANY_TODAY"
)

// Refusals returns all refusals.
func Refusals() []Refusal { return slices.Clone(refusals) }

var refusals = []Refusal{FactsMissing, MerchantNotAllowed, MerchantDiffers, CurrencyDiffers, AmountDiffers, AlreadyVoided, AnotherVoid, Settled, NotSameDay, TooOld, AboveLimit, TooManyToday}

// Decision is whether a payment may be voided, and how.
type Decision struct {
	Refusal Refusal              // empty if it may
	Methods [][]voidtoken.Method // the sets that suffice; none if it may not
}

// Allowed reports whether the payment may be voided.
func (d Decision) Allowed() bool { return d.Refusal == "" && len(d.Methods) > 0 }

// Decide says whether a payment may be voided at a moment, and by which methods that is
// authorised. Rules that are not valid allow nothing.
func Decide(rules *Rules, fields voidtoken.Fields, facts Facts, now int64) Decision {
	refuse := func(r Refusal) Decision { return Decision{Refusal: r} }
	if !validTime(now) || fields.Validate() != nil || !facts.complete(now) {
		return refuse(FactsMissing)
	}
	limits := rules.of(fields.Merchant)
	if limits == nil || limits.problem() != "" {
		return refuse(MerchantNotAllowed)
	}
	today := func(at int64) int64 { return floor(at+limits.DayBegins, day) }
	switch {
	case facts.Merchant != fields.Merchant:
		return refuse(MerchantDiffers)
	case facts.Currency != fields.Currency || limits.Currency != fields.Currency:
		return refuse(CurrencyDiffers)
	case facts.Amount != fields.Amount:
		return refuse(AmountDiffers)
	case facts.Voided != No:
		return refuse(AlreadyVoided)
	case facts.Live != No:
		return refuse(AnotherVoid)
	case facts.Settled != No:
		return refuse(Settled)
	case today(min(facts.PaidAt, now)) != today(now):
		return refuse(NotSameDay)
	case now-facts.PaidAt > limits.Age:
		return refuse(TooOld)
	}
	for _, tier := range limits.Tiers {
		if fields.Amount <= tier.UpTo {
			if *facts.VoidsToday >= limits.PerDay {
				return refuse(TooManyToday)
			}
			return Decision{Methods: cloneSets(tier.Methods)}
		}
	}
	return refuse(AboveLimit)
}

// complete reports whether every fact was said, and is one.
func (f *Facts) complete(now int64) bool {
	answered := func(a Answer) bool { return a == No || a == Yes }
	return f.Merchant != "" && f.Amount > 0 && f.Currency != 0 && validTime(f.PaidAt) && f.PaidAt <= now+ahead &&
		answered(f.Settled) && answered(f.Voided) && answered(f.Live) && f.VoidsToday != nil && *f.VoidsToday >= 0
}

// validTime reports whether a time is one that can be reckoned with: after 1970, and not so late
// that a sum would overflow.
func validTime(at int64) bool { return at > 0 && at < 1<<40 }

func floor(a, b int64) int64 {
	if q := a / b; a%b >= 0 {
		return q
	}
	return a/b - 1
}

func cloneSets(sets [][]voidtoken.Method) [][]voidtoken.Method {
	out := make([][]voidtoken.Method, len(sets))
	for i, set := range sets {
		out[i] = append([]voidtoken.Method(nil), set...)
	}
	return out
}
