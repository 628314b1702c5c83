package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
	"keyd/web/chromium"
)

// browser starts Chromium, which finds the service that h has spoken with.
func (h *handset) browser() *chromium.Phone {
	h.t.Helper()
	host := strings.TrimPrefix(h.Origin, "https://")
	c, err := tls.Dial("tcp", host, h.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		h.t.Fatal(err)
	}
	key := sha256.Sum256(c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	if err := c.Close(); err != nil {
		h.t.Fatal(err)
	}
	return chromium.New(h.t, chromium.Site{Host: host, Key: base64.StdEncoding.EncodeToString(key[:])}, "en")
}

// The whole way with a real browser: links and codes as commands print them, pages as the service serves
// them, a passkey of the browser's authenticator, a PIN that the page enciphers and a module opens, and
// tokens that verify without the service.
func TestPagesInABrowser(t *testing.T) {
	h := newHandset(t)
	link, code := h.linked("enrol", "1", "passkey")
	p := h.browser()
	p.Open("/p#" + link)
	p.Title("Set up a passkey")
	p.Shows("m-17", "dora")
	p.Tap("Begin")
	p.Title("Create the passkey")
	p.Tap("Create passkey")
	p.Title("Enter the code")
	p.Pad("00000000")
	p.Tap("Next")
	p.Title("Wrong code")
	p.Tap("Enter the code again")
	p.Title("Enter the code")
	p.Pad(code)
	p.Tap("Next")
	p.Title("Your passkey is set")

	id, qr, _ := h.voidOnPhone("pay-0001", 30_000)
	w := h.watch(t, id)
	w.sees("created")
	p.Open("/V/" + qr)
	p.Title("Approve this void?")
	p.Shows("300.00", "CNY", "m-17", "t-1", "…0001")
	p.Tap("Approve with passkey")
	p.Title("Approved")
	w.sees("authorized")
	h.tokenOf(id, "pay-0001", 30_000, voidtoken.PhonePasskey)
	p.Open("/V/" + qr)
	p.Title("Approved already")

	id, qr, _ = h.voidOnPhone("pay-0002", 12_300)
	p.Open("/V/" + qr)
	typesPIN(p, "000001", "123.00")
	p.Title("Not verified")
	p.Shows("2 tries are left")
	p.Tap("Try again")
	typesPIN(p, h.pin, "123.00")
	p.Title("Approved")
	h.tokenOf(id, "pay-0002", 12_300, voidtoken.PhonePIN)

	next := randomPIN(t)
	link, code = h.linked("reset", "2", "supervisor")
	setsPIN(p, link, code, next)
	h.entered("verify", dora, false, h.pin)
	h.entered("verify", dora, true, next)

	altered := []byte(qr)
	altered[120] = 'A' + (altered[120]-'A'+1)%26
	p.Open("/V/" + string(altered))
	p.Title("This code cannot be used")
	p.Quiet()
	if strings.Contains(h.logged(), next) || strings.Contains(h.logged(), code) {
		t.Error("the log holds a PIN or a code")
	}
}

// typesPIN has dora's PIN typed for a void of an amount whose page is open.
func typesPIN(p *chromium.Phone, pin, amount string) {
	p.Title("Approve this void?")
	p.Shows(amount)
	p.Tap("Use PIN")
	p.Title("Supervisor")
	p.Do(chromedp.SendKeys(chromedp.ID("name"), "dora"))
	p.Tap("Next")
	p.Title("PIN of dora")
	p.Pad(pin)
	p.Tap("Approve void of " + amount + " CNY")
}

// setsPIN has a PIN set behind a link.
func setsPIN(p *chromium.Phone, link, code, pin string) {
	p.Do(chromedp.Navigate("about:blank")) // another fragment alone is no other page
	p.Open("/p#" + link)
	p.Title("Set your PIN")
	p.Tap("Begin")
	p.Title("Enter the code")
	p.Pad(code)
	p.Tap("Next")
	p.Title("New PIN")
	p.Pad(pin)
	p.Tap("Next")
	p.Title("New PIN once more")
	p.Pad(pin)
	p.Tap("Done")
	p.Title("Your PIN is set")
}

// setsPasskey has a passkey made and set behind a link.
func setsPasskey(p *chromium.Phone, link, code string) {
	p.Do(chromedp.Navigate("about:blank"))
	p.Open("/p#" + link)
	p.Title("Set up a passkey")
	p.Tap("Begin")
	p.Title("Create the passkey")
	p.Tap("Create passkey")
	p.Title("Enter the code")
	p.Pad(code)
	p.Tap("Next")
	p.Title("Your passkey is set")
}

// tokenOf insists on a void's token, by which dora has authorised it.
func (h *handset) tokenOf(id, reference string, amount int64, method voidtoken.Method) {
	h.t.Helper()
	a := new(keydv1.AuthorizeVoidResponse)
	h.asked(a, "", "token", id)
	if out, err := h.verify(a.Token, "void-tokens.pem", id, reference, amount, string(method)); err != nil || !strings.Contains(out, string(method)+" by dora") {
		h.t.Errorf("the token: %s, %v", out, err)
	}
}
