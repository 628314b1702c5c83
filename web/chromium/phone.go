// Package chromium is Chromium as a small phone, for tests of the pages: with a finger, a screen, an
// authenticator that verifies its user, and a console whose complaints fail the test.
//
// It is for tests only.
package chromium

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Width and Height are those of the smallest phone that sells, in CSS pixels.
const Width, Height = 360, 640

// Site is where the pages are.
type Site struct {
	Host    string // in URLs, perhaps with a port
	Address string // to which the browser goes for it; empty: the host itself
	Key     string // base64 of the SHA-256 of the certificate's SubjectPublicKeyInfo, which is believed
}

// Phone is a browser with one tab. Its context ends with the test.
type Phone struct {
	context.Context
	Authenticator webauthn.AuthenticatorID

	t    testing.TB
	site Site

	lock     sync.Mutex
	problems []string // of which the console has complained
}

// expected are parts of what Chromium says of pages that are right.
var expected = []string{
	"Failed to load resource",     // a refusal is an answer
	"Unrecognized feature",        // that this build does not have, and others do
	"pubKeyCredParams is missing", // RS256, which package passkey does not take
}

// New starts Chromium, with a profile of its own that goes with it; the test ends both. It finds the site's host, and no other,
// and believes the site's certificate, and no other that nobody has signed.
func New(t testing.TB, site Site, language string) *Phone {
	t.Helper()
	rules := "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
	if site.Address != "" {
		rules = "MAP " + site.Host + ":443 " + site.Address + ", " + rules
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("headless", "new"), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", language),
		chromedp.Flag("host-resolver-rules", rules),
		chromedp.Flag("ignore-certificate-errors-spki-list", site.Key),
	)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	})
	p := &Phone{Context: ctx, t: t, site: site}
	p.Do(chromedp.Navigate("about:blank"))
	console := chromedp.Console(ctx)
	go func() {
		for m, err := range console {
			if err != nil {
				return
			}
			if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(m.Text, part) }) {
				p.complain(m.String())
			}
		}
	}()
	Call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: Width, Height: Height, DeviceScaleFactor: 2, Mobile: true})
	Call(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true})
	Call(p, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{
		UserAgent: "Mozilla/5.0 (Linux; Android 15; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36", AcceptLanguage: language,
	})
	Call(p, webauthn.Enable, webauthn.EnableParams{})
	p.Authenticator = Call(p, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}}).AuthenticatorID
	return p
}

// Call calls a command of the browser's protocol.
func Call[P, R any](p *Phone, command cdp.Command[P, R], parameters P) R {
	p.t.Helper()
	answer, err := chromedp.Call(p, command, parameters)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return answer
}

// Eval evaluates an expression, whose promise is waited for.
func Eval[T any](p *Phone, expression string) T {
	p.t.Helper()
	answer, err := chromedp.Run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%v, in %s", err, expression)
	}
	return answer
}

func (p *Phone) complain(what string) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.problems = append(p.problems, what)
}

// Quiet fails the test if the browser has complained of a page.
func (p *Phone) Quiet() {
	p.t.Helper()
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, problem := range p.problems {
		p.t.Error(problem)
	}
	p.problems = nil
}

// Do runs actions.
func (p *Phone) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// Open opens a path of the site.
func (p *Phone) Open(path string) {
	p.t.Helper()
	p.Do(chromedp.Navigate("https://" + p.site.Host + path))
}

// Until waits until an expression is true. It says what the page was like if it never is.
func (p *Phone) Until(expression string) {
	p.t.Helper()
	const look = `new Promise((done) => { const end = Date.now() + 45000; const look = () => { const now = Boolean(%s); if (now || Date.now() > end) done(now); else setTimeout(look, 15); }; look(); })`
	if Eval[bool](p, fmt.Sprintf(look, expression)) {
		return
	}
	p.t.Fatalf("%s never came; there is %q; %q", expression, Eval[string](p, `document.title + " / " + document.activeElement?.outerHTML + " / " + document.body.innerText`), p.problems)
}

// Title waits until the page has a title, says it in large letters, and has the focus there.
func (p *Phone) Title(want string) {
	p.t.Helper()
	p.Until(`document.title === ` + quoted(want) + ` && document.querySelector("h1").textContent === document.title && document.activeElement === document.querySelector("h1")`)
}

// Tap taps what has a name, at its middle, with a finger.
func (p *Phone) Tap(name string) {
	p.t.Helper()
	type place struct{ X, Y float64 }
	at := Eval[place](p, `(() => {
		const all = [...document.querySelectorAll("button, summary, .choice")].filter((b) => (b.getAttribute("aria-label") ?? b.textContent) === `+quoted(name)+`);
		if (all.length !== 1) throw new Error(all.length + " of them");
		all[0].scrollIntoView({block: "nearest"});
		const r = all[0].getBoundingClientRect();
		return {X: r.x + r.width / 2, Y: r.y + r.height / 2};
	})()`)
	Call(p, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchStart, TouchPoints: []*input.TouchPoint{{X: at.X, Y: at.Y}}})
	Call(p, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchEnd, TouchPoints: []*input.TouchPoint{}})
}

// Pad taps digits.
func (p *Phone) Pad(digits string) {
	p.t.Helper()
	for _, d := range digits {
		p.Tap(string(d))
	}
}

// Shows reports what does not stand on the page.
func (p *Phone) Shows(texts ...string) {
	p.t.Helper()
	page := Eval[string](p, `document.body.innerText`)
	for _, want := range texts {
		if !strings.Contains(page, want) {
			p.t.Errorf("no %q in %q", want, page)
		}
	}
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }
