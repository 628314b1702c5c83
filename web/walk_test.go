package web

import (
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"keyd/fault"
	"keyd/pinrecord"
)

// at waits for the title that has a key.
func (p *phone) at(key string, about ...any) {
	p.t.Helper()
	p.Until(`document.title !== "keyd"`)
	p.Title(p.text(key, about...))
}

// press taps the button that has a text with a key.
func (p *phone) press(key string, about ...any) {
	p.t.Helper()
	p.Tap(p.text(key, about...))
}

// wait has the backend wait until the function that it returns is called.
func (p *phone) wait() (resume func()) {
	hold := make(chan struct{})
	p.lock.Lock()
	defer p.lock.Unlock()
	p.hold = hold
	return func() { close(hold) }
}

// failing has the backend's next answers be refusals.
func (p *phone) failing(reasons ...fault.Reason) {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, r := range reasons {
		p.fail = append(p.fail, fault.New(r, ""))
	}
}

// walk goes through every state of both pages, and calls visit in each.
func (p *phone) walk(visit func(state string)) {
	p.t.Helper()
	p.walkEnrolment(visit)
	p.walkVoid(visit)
	p.walkRefusals(visit)
	p.Quiet()
}

func (p *phone) walkEnrolment(visit func(string)) {
	p.t.Helper()
	for name, merchant := range map[string]string{"dora": "m-17", "emil": "m-17"} {
		s := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: merchant, Name: name}
		p.lock.Lock()
		p.pins[s.Digest()] = "739104"
		p.lock.Unlock()
	}
	p.openLink("WRONG")
	p.at("link_wrong")
	visit("link_wrong")

	p.openLink(p.newLink(pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Terminal: "t-1", Name: "franz"}))
	p.at("set_pin")
	visit("set_pin")
	p.press("begin")
	p.at("code_title")
	visit("code")
	p.Pad("40718293")
	p.press("next")
	p.at("pin_title")
	p.Pad("739")
	visit("pin")
	p.Pad("104")
	p.press("next")
	p.at("repeat_title")
	visit("repeat")
	p.Pad("739105")
	p.press("done")
	p.at("differ")
	visit("differ")
	for _, pin := range []string{"123456", "739104"} {
		if pin == "123456" {
			p.press("again")
		} else {
			p.at("weak")
			visit("weak")
			p.press("choose_other")
		}
		p.at("pin_title")
		p.Pad(pin)
		p.press("next")
		p.at("repeat_title")
		p.Pad(pin)
		p.press("done")
	}
	p.at("pin_set")
	visit("pin_set")

	p.openLink(p.newLink(pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "m-17", Name: "dora"}))
	p.at("set_passkey")
	visit("set_passkey")
	p.press("begin")
	p.at("create_title")
	visit("create")
	p.verifies(false)
	p.press("create")
	p.at("create_failed")
	visit("create_failed")
	p.press("again")
	p.at("create_title")
	p.verifies(true)
	p.press("create")
	p.at("code_title")
	p.Pad("11111111")
	p.press("next")
	p.at("code_wrong")
	visit("code_wrong")
	p.press("code_again")
	p.at("code_title")
	p.Pad("40718293")
	p.press("next")
	p.at("passkey_set")
	visit("passkey_set")
}

// verifies sets whether the phone verifies its user.
func (p *phone) verifies(does bool) {
	p.t.Helper()
	call(p, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: p.Authenticator, IsUserVerified: does})
}

// touched sets whether its user confirms at once.
func (p *phone) touched(atOnce bool) {
	p.t.Helper()
	call(p, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: p.Authenticator, Enabled: atOnce})
}

func (p *phone) walkVoid(visit func(string)) {
	p.t.Helper()
	code := p.newVoid(nil)
	resume := p.wait()
	p.openVoid(code)
	p.at("loading")
	visit("loading")
	resume()
	p.at("void_title")
	visit("void")
	p.press("guide_void")
	p.Until(`document.querySelector("details").open`)
	visit("guide")
	p.verifies(false)
	p.press("approve_passkey")
	p.at("not_confirmed")
	visit("not_confirmed")
	p.verifies(true)
	p.press("again")
	p.at("void_title")

	p.press("use_pin")
	p.at("who_title")
	visit("who")
	p.press("next")
	p.Until(`document.activeElement.id === "name" && document.querySelector("[role=alert]").textContent`)
	visit("who_wrong")
	p.Do(chromedp.SendKeys(chromedp.ID("name"), "dora"))
	p.press("next")
	p.at("pad_pin", "dora")
	p.Pad("7391")
	visit("pad")
	p.Pad("05")
	resume = p.wait()
	p.press("pad_approve", "123.45 CNY")
	p.at("sending")
	visit("sending")
	resume()
	p.at("not_verified")
	visit("not_verified")
	for _, after := range []string{"not_verified", "declined"} {
		p.press("again")
		p.approveByPIN("dora", "111111", "123.45 CNY")
		p.at(after)
	}
	visit("declined")

	code = p.newVoid(nil)
	p.openVoid(code)
	p.at("void_title")
	p.touched(false)
	p.press("approve_passkey")
	p.at("confirming")
	visit("confirming")
	p.openVoid(code) // who thinks twice
	p.touched(true)
	p.at("void_title")
	p.press("approve_passkey")
	p.at("approved")
	visit("approved")
	p.openVoid(code)
	p.at("already")
	visit("already")
}

// approveByPIN goes from the void to its approval.
func (p *phone) approveByPIN(name, pin, amount string) {
	p.t.Helper()
	p.at("void_title")
	p.press("use_pin")
	p.at("who_title")
	p.Do(chromedp.SendKeys(chromedp.ID("name"), name))
	p.press("next")
	p.at("pad_pin", name)
	p.Pad(pin)
	p.press("pad_approve", amount)
}

func (p *phone) walkRefusals(visit func(string)) {
	p.t.Helper()
	for key, change := range map[string]func(*Void){
		"scanned":   func(v *Void) { v.State = "SCANNED" },
		"cancelled": func(v *Void) { v.State = "CANCELLED" },
		"expired":   func(v *Void) { v.State = "EXPIRED" },
		"elsewhere": func(v *Void) { v.Passkey, v.PIN, v.Key, v.CodeKey = false, false, nil, nil },
	} {
		p.openVoid(p.newVoid(change))
		p.at(key)
		visit(key)
	}
	p.openVoid(p.newVoid(func(v *Void) { v.Key.Point[64] ^= 1 }))
	p.at("void_title")
	p.press("use_pin")
	p.at("forged")
	visit("forged")
	p.openVoid("AAAA")
	p.at("unusable")
	visit("unusable")
	for key, reasons := range map[string][]fault.Reason{
		"too_many": {fault.RateLimited},
		"busy":     {fault.StoreUnavailable, fault.StoreUnavailable, fault.StoreUnavailable},
		"internal": {fault.KeyNotFound},
		"refused":  {fault.RequestInvalid},
	} {
		p.failing(reasons...)
		p.openVoid(p.newVoid(nil))
		p.at(key)
		visit(key)
	}
	p.openVoid(p.newVoid(nil))
	p.at("void_title")
	p.failing(fault.PINRecordEnded)
	p.press("approve_passkey")
	p.at("not_accepted")
	visit("not_accepted")

	code := p.newVoid(nil)
	p.openVoid(code)
	p.at("void_title")
	p.unreachable("*://*:*/api/*")
	p.press("approve_passkey")
	p.at("no_answer")
	visit("no_answer")
	p.unreachable()
	p.press("send_again")
	p.at("approved")

	p.openVoid(p.newVoid(nil))
	p.at("void_title")
	p.offline(true)
	p.press("approve_passkey")
	p.at("offline")
	visit("offline")
	p.offline(false)
	p.press("send_again")
	p.at("approved")

	old := call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: "delete globalThis.PublicKeyCredential; delete Crypto.prototype.subtle"})
	p.openVoid(p.newVoid(nil))
	p.at("old")
	visit("old")
	call(p, page.RemoveScriptToEvaluateOnNewDocument, page.RemoveScriptToEvaluateOnNewDocumentParams(old))
}

// unreachable has requests fail as on a network that loses them.
func (p *phone) unreachable(patterns ...string) {
	p.t.Helper()
	list := []*network.BlockPattern{}
	for _, pattern := range patterns {
		list = append(list, &network.BlockPattern{URLPattern: pattern, Block: true})
	}
	call(p, network.Enable, network.EnableParams{})
	call(p, network.SetBlockedURLs, network.SetBlockedURLsParams{URLPatterns: list})
}

// network sets how the network is: bytes in a second, and milliseconds until an answer begins.
func (p *phone) network(offline bool, latency, down, up float64) {
	p.t.Helper()
	call(p, network.Enable, network.EnableParams{})
	call(p, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: offline, Latency: latency, DownloadThroughput: down, UploadThroughput: up}},
	})
	call(p, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: offline, Latency: latency, DownloadThroughput: down, UploadThroughput: up})
}

// offline takes the network away, or gives it back.
func (p *phone) offline(is bool) {
	p.t.Helper()
	p.network(is, 0, -1, -1)
}
