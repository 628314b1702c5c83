package flow

import (
	"testing"

	"keyd/voidtoken"
)

// now is noon of a day in China.
const now = 1795752000

var someFields = voidtoken.Fields{
	Void: "00112233445566778899aabbccddeeff", Merchant: "merchant-8", Terminal: "t-1", Reference: "112700123456", Amount: 12345, Currency: voidtoken.CNY,
}

func someLimits() Limits {
	return Limits{
		Currency: voidtoken.CNY,
		Tiers: []Tier{
			{20_000, [][]voidtoken.Method{{voidtoken.SupervisorPIN}, {voidtoken.RemoteApproval}, {voidtoken.PhonePasskey}}},
			{500_000, [][]voidtoken.Method{{voidtoken.SupervisorPIN, voidtoken.CardholderPIN}, {voidtoken.RemoteApproval}}},
		},
		PerDay: 20, Age: 4 * 3600, DayBegins: 8 * 3600, Tries: 3, Life: 300, Confirm: 900,
	}
}

func someRules() *Rules {
	limits := someLimits()
	return &Rules{Default: &limits}
}

func someFacts() Facts {
	none := 0
	return Facts{Merchant: someFields.Merchant, Amount: someFields.Amount, Currency: voidtoken.CNY, PaidAt: now - 600, Settled: No, Voided: No, Live: No, VoidsToday: &none}
}

func create(t testing.TB, fields voidtoken.Fields, facts Facts, rules *Rules) Void {
	t.Helper()
	v, outcome, err := New("create", fields, rules, facts, now)
	if err != nil || outcome.Result != ResultCreated {
		t.Fatal(outcome, err)
	}
	return v
}

// apply applies an event that is one.
func apply(t testing.TB, v Void, e Event, rules *Rules) (Void, Outcome) {
	t.Helper()
	v, outcome, err := v.Apply(e, rules)
	if err != nil {
		t.Fatal(e, err)
	}
	return v, outcome
}

func event(kind Kind, request string, at int64) Event {
	return Event{Kind: kind, Request: request, At: at}
}

func approval(request string, at int64, method voidtoken.Method, subject string) Event {
	return Event{Kind: EventApprove, Request: request, At: at, Method: method, Subject: subject, Facts: someFacts()}
}

func failure(request string, at int64, method voidtoken.Method, how Failure) Event {
	return Event{Kind: EventFail, Request: request, At: at, Method: method, Failure: how}
}
