package flow

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/voidtoken"
)

func count(n int) *int { return &n }

func TestDecide(t *testing.T) {
	type change struct {
		rules  func(*Limits)
		fields func(*voidtoken.Fields)
		facts  func(*Facts)
		now    int64
	}
	seen := map[Refusal]bool{}
	for what, c := range map[string]struct {
		change
		want Refusal
	}{
		"a payment of today":                 {change{}, ""},
		"no merchant":                        {change{facts: func(f *Facts) { f.Merchant = "" }}, FactsMissing},
		"no amount":                          {change{facts: func(f *Facts) { f.Amount = 0 }}, FactsMissing},
		"no currency":                        {change{facts: func(f *Facts) { f.Currency = 0 }}, FactsMissing},
		"no time of payment":                 {change{facts: func(f *Facts) { f.PaidAt = 0 }}, FactsMissing},
		"settled or not":                     {change{facts: func(f *Facts) { f.Settled = Unknown }}, FactsMissing},
		"voided or not":                      {change{facts: func(f *Facts) { f.Voided = Unknown }}, FactsMissing},
		"another void or not":                {change{facts: func(f *Facts) { f.Live = Unknown }}, FactsMissing},
		"an answer that is none":             {change{facts: func(f *Facts) { f.Live = 7 }}, FactsMissing},
		"no count":                           {change{facts: func(f *Facts) { f.VoidsToday = nil }}, FactsMissing},
		"a negative count":                   {change{facts: func(f *Facts) { f.VoidsToday = count(-1) }}, FactsMissing},
		"paid tomorrow":                      {change{facts: func(f *Facts) { f.PaidAt = now + ahead + 1 }}, FactsMissing},
		"paid in a moment, by another clock": {change{facts: func(f *Facts) { f.PaidAt = now + ahead }}, ""},
		"no time":                            {change{now: -1}, FactsMissing},
		"fields that no void has":            {change{fields: func(f *voidtoken.Fields) { f.Terminal = "" }}, FactsMissing},
		"rules that are none":                {change{rules: func(l *Limits) { l.Tries = 0 }}, MerchantNotAllowed},
		"another's payment":                  {change{facts: func(f *Facts) { f.Merchant = "merchant-9" }}, MerchantDiffers},
		"a payment in another currency":      {change{facts: func(f *Facts) { f.Currency = 344 }}, CurrencyDiffers},
		"a void in another currency":         {change{fields: func(f *voidtoken.Fields) { f.Currency = 344 }}, CurrencyDiffers},
		"limits in another currency":         {change{rules: func(l *Limits) { l.Currency = 344 }}, CurrencyDiffers},
		"a part of it":                       {change{fields: func(f *voidtoken.Fields) { f.Amount-- }}, AmountDiffers},
		"more than all":                      {change{fields: func(f *voidtoken.Fields) { f.Amount++ }}, AmountDiffers},
		"voided":                             {change{facts: func(f *Facts) { f.Voided, f.Settled = Yes, Yes }}, AlreadyVoided},
		"about to be voided":                 {change{facts: func(f *Facts) { f.Live = Yes }}, AnotherVoid},
		"settled":                            {change{facts: func(f *Facts) { f.Settled = Yes }}, Settled},
		"of yesterday":                       {change{facts: func(f *Facts) { f.PaidAt = now - 12*3600 - 1 }}, NotSameDay},
		"as old as may be":                   {change{facts: func(f *Facts) { f.PaidAt = now - 4*3600 }}, ""},
		"older":                              {change{facts: func(f *Facts) { f.PaidAt = now - 4*3600 - 1 }}, TooOld},
		"a cut-off at 23:00, one hour before": {change{rules: func(l *Limits) { l.DayBegins = 9 * 3600 }, now: now + 11*3600,
			facts: func(f *Facts) { f.PaidAt = now + 11*3600 - 1 }}, NotSameDay},
		"a cut-off at midnight, one hour before": {change{now: now + 11*3600, facts: func(f *Facts) { f.PaidAt = now + 11*3600 - 1 }}, ""},
		"midnight":                               {change{now: now + 12*3600, facts: func(f *Facts) { f.PaidAt = now + 12*3600 - 1 }}, NotSameDay},
		"paid in a moment, which is tomorrow":    {change{now: now + 12*3600 - 1, facts: func(f *Facts) { f.PaidAt = now + 12*3600 + 9 }}, ""},
		"up to the limit":                        {change{fields: func(f *voidtoken.Fields) { f.Amount = 500_000 }, facts: func(f *Facts) { f.Amount = 500_000 }}, ""},
		"above the limit":                        {change{fields: func(f *voidtoken.Fields) { f.Amount = 500_001 }, facts: func(f *Facts) { f.Amount = 500_001 }}, AboveLimit},
		"the last of the day":                    {change{facts: func(f *Facts) { f.VoidsToday = count(19) }}, ""},
		"one too many":                           {change{facts: func(f *Facts) { f.VoidsToday = count(20) }}, TooManyToday},
	} {
		limits, fields, facts, at := someLimits(), someFields, someFacts(), c.now
		if c.rules != nil {
			c.rules(&limits)
		}
		if c.fields != nil {
			c.fields(&fields)
		}
		if c.facts != nil {
			c.facts(&facts)
		}
		if at == 0 {
			at = now
		}
		d := Decide(&Rules{Default: &limits}, fields, facts, at)
		if d.Refusal != c.want || d.Allowed() != (c.want == "") || d.Allowed() != (len(d.Methods) > 0) {
			t.Errorf("%s: %+v, want %q", what, d, c.want)
		}
		seen[d.Refusal] = true
	}
	for _, r := range Refusals() {
		if !seen[r] {
			t.Errorf("nothing above is %s", r)
		}
	}
	if (Decision{}).Allowed() {
		t.Error("what was not decided is allowed")
	}
}

func TestMerchantsLimits(t *testing.T) {
	own := someLimits()
	own.Tiers = own.Tiers[:1]
	for what, c := range map[string]struct {
		rules *Rules
		want  Refusal
	}{
		"no rules": {nil, MerchantNotAllowed}, "empty rules": {&Rules{}, MerchantNotAllowed}, "another's rules": {&Rules{Merchants: map[string]Limits{"merchant-9": own}}, MerchantNotAllowed},
		"its own rules": {&Rules{Merchants: map[string]Limits{"merchant-8": own}}, ""}, "its own before the default": {&Rules{Default: &Limits{}, Merchants: map[string]Limits{"merchant-8": own}}, ""},
		"its own, which are none": {&Rules{Default: someRules().Default, Merchants: map[string]Limits{"merchant-8": {}}}, MerchantNotAllowed},
	} {
		if d := Decide(c.rules, someFields, someFacts(), now); d.Refusal != c.want {
			t.Errorf("%s: %+v, want %q", what, d, c.want)
		}
	}
	fields, facts := someFields, someFacts()
	for amount, want := range map[int64][][]voidtoken.Method{
		1: own.Tiers[0].Methods, 20_000: own.Tiers[0].Methods, 20_001: someLimits().Tiers[1].Methods,
	} {
		fields.Amount, facts.Amount = amount, amount
		rules := someRules()
		d := Decide(rules, fields, facts, now)
		if !reflect.DeepEqual(d.Methods, want) {
			t.Errorf("%d: %v", amount, d.Methods)
		}
		d.Methods[0][0] = "changed" // what a caller does with an answer is not the rules' concern
		if rules.Validate() != nil {
			t.Error("the answer is the rules themselves")
		}
	}
}

func TestRulesThatAreNone(t *testing.T) {
	if err := someRules().Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (&Rules{}).Validate(); err != nil {
		t.Errorf("rules by which nobody voids anything: %v", err)
	}
	for what, change := range map[string]func(*Limits){
		"currency": func(l *Limits) { l.Currency = 0 }, "tier": func(l *Limits) { l.Tiers = nil }, "number per day": func(l *Limits) { l.PerDay = 0 },
		"age": func(l *Limits) { l.Age = 0 }, "age ": func(l *Limits) { l.Age = MaxAge + 1 }, "business day": func(l *Limits) { l.DayBegins = day }, "business day ": func(l *Limits) { l.DayBegins = -day },
		"tries": func(l *Limits) { l.Tries = 0 }, "tries ": func(l *Limits) { l.Tries = MaxTries + 1 }, "lives": func(l *Limits) { l.Life = 0 }, "lives ": func(l *Limits) { l.Life = MaxLife + 1 },
		"switch": func(l *Limits) { l.Confirm = 0 }, "switch ": func(l *Limits) { l.Confirm = MaxConfirm + 1 },
		"rising": func(l *Limits) { l.Tiers[1].UpTo = l.Tiers[0].UpTo }, "rising ": func(l *Limits) { l.Tiers[0].UpTo = 0 },
		"set": func(l *Limits) { l.Tiers[0].Methods = nil }, "set ": func(l *Limits) { l.Tiers[0].Methods = [][]voidtoken.Method{{}} },
		"unknown": func(l *Limits) { l.Tiers[0].Methods = [][]voidtoken.Method{{"PIN"}} },
		"by itself": func(l *Limits) {
			l.Tiers[0].Methods = [][]voidtoken.Method{{voidtoken.SupervisorPIN, voidtoken.PhonePasskey}}
		},
		"once": func(l *Limits) {
			l.Tiers[0].Methods = [][]voidtoken.Method{{voidtoken.CardholderPIN, voidtoken.CardholderPIN}}
		},
	} {
		limits := someLimits()
		change(&limits)
		for _, rules := range []*Rules{{Default: &limits}, {Merchants: map[string]Limits{"merchant-8": limits}}} {
			if err := rules.Validate(); !errors.Is(err, ErrRules) || !strings.Contains(err.Error(), strings.TrimSpace(what)) {
				t.Errorf("%s: %v", what, err)
			}
			if d := Decide(rules, someFields, someFacts(), now); d.Refusal != MerchantNotAllowed {
				t.Errorf("%s: %+v", what, d)
			}
		}
	}
	if err := (&Rules{Merchants: map[string]Limits{"merchant 8": someLimits()}}).Validate(); !errors.Is(err, ErrRules) {
		t.Errorf("a merchant's name: %v", err)
	}
}

// Whatever is allowed is allowed for each reason by itself: all facts say no, the amount and the
// count are within the limits, and the payment is of the same day and young enough.
func TestAllowedMeansAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := someLimits()
		limits.DayBegins = rapid.Int64Range(-day+1, day-1).Draw(t, "day begins")
		answer := rapid.SampledFrom([]Answer{No, No, No, No, No, Yes, Unknown})
		at := rapid.Int64Range(now-3*day, now+3*day).Draw(t, "now")
		fields := someFields
		fields.Amount = rapid.Int64Range(1, 600_000).Draw(t, "amount")
		facts := Facts{
			Merchant: "merchant-8", Amount: fields.Amount, Currency: voidtoken.CNY, PaidAt: at - rapid.Int64Range(-60, 6*3600).Draw(t, "age"),
			Settled: answer.Draw(t, "settled"), Voided: answer.Draw(t, "voided"), Live: answer.Draw(t, "live"), VoidsToday: count(rapid.IntRange(0, 30).Draw(t, "today")),
		}
		sameDay := false
		for midnight := at - at%day - limits.DayBegins - 3*day; midnight <= at; midnight += day { // the business day is looked for, day by day
			if at >= midnight && at < midnight+day {
				sameDay = facts.PaidAt >= midnight // a payment of the next day is one by a clock that is ahead
			}
		}
		want := facts.Settled == No && facts.Voided == No && facts.Live == No && fields.Amount <= 500_000 && *facts.VoidsToday < 20 &&
			facts.PaidAt <= at+ahead && at-facts.PaidAt <= 4*3600 && sameDay
		if d := Decide(&Rules{Default: &limits}, fields, facts, at); d.Allowed() != want {
			t.Fatalf("%+v, want %t", d, want)
		}
	})
}
