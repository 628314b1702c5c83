package web

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Width and height of the smallest phone that is looked at.
const phoneWidth, phoneHeight = 360, 640

// served is a bank behind the pages' own server, over TLS.
type served struct {
	*bank
	address string
	pin     string            // of the certificate, as Chromium wants it
	modules map[string]string // paths of scripts
}

// serve serves a bank's pages on a port of this machine.
func serve(t *testing.T) *served {
	t.Helper()
	b := newBank(t)
	server, err := Server(Config{Backend: b, Host: host})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	hash := sha256.Sum256(public)
	server.TLSConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(Limit(l), "", "") }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	s := &served{b, l.Addr().String(), base64.StdEncoding.EncodeToString(hash[:]), map[string]string{}}
	all, err := loaded()
	must(t, err)
	for path := range all.assets {
		if !strings.HasSuffix(path, ".js") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "/assets/"), ".")
		s.modules[name+".js"] = path
	}
	return s
}

// phone is Chromium, as a small phone on which somebody looks at a bank's pages.
type phone struct {
	*served
	context.Context
	authenticator webauthn.AuthenticatorID
	problems      []string // of which the browser's console has complained
}

// expected are parts of what Chromium says of pages that are right.
var expected = []string{
	"Failed to load resource",     // a refusal is an answer
	"Unrecognized feature",        // that this build does not have, and others do
	"pubKeyCredParams is missing", // RS256, which package passkey does not take
}

// newPhone starts Chromium with a new profile. It finds the pages' host on this machine, and believes
// their certificate and no other that nobody has signed.
func newPhone(t *testing.T, s *served, language string) *phone {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("headless", "new"), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", language),
		chromedp.Flag("host-resolver-rules", "MAP "+host+":443 "+s.address+", MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", s.pin),
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
	p := &phone{served: s, Context: ctx}
	p.do(chromedp.Navigate("about:blank"))
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
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: phoneWidth, Height: phoneHeight, DeviceScaleFactor: 2, Mobile: true})
	call(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true})
	call(p, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{
		UserAgent: "Mozilla/5.0 (Linux; Android 15; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36", AcceptLanguage: language,
	})
	call(p, webauthn.Enable, webauthn.EnableParams{})
	p.authenticator = call(p, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}}).AuthenticatorID
	return p
}

// call calls a command of the browser's protocol.
func call[P, R any](p *phone, command cdp.Command[P, R], parameters P) R {
	p.t.Helper()
	answer, err := chromedp.Call(p, command, parameters)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return answer
}

// eval evaluates an expression, whose promise is waited for.
func eval[T any](p *phone, expression string) T {
	p.t.Helper()
	answer, err := chromedp.Run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%v, in %s", err, expression)
	}
	return answer
}

func (p *phone) complain(what string) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.problems = append(p.problems, what)
}

// quiet fails the test if the browser has complained of a page.
func (p *phone) quiet() {
	p.t.Helper()
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, problem := range p.problems {
		p.t.Error(problem)
	}
	p.problems = nil
}

func (p *phone) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) open(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate("https://" + host + path))
}

// openVoid opens a code's page, openLink a link's.
func (p *phone) openVoid(code string) {
	p.t.Helper()
	p.open("/V/" + code)
}

func (p *phone) openLink(link string) {
	p.t.Helper()
	p.do(chromedp.Navigate("about:blank")) // another fragment alone is no other page
	p.open("/p#" + link)
}

// until waits until an expression is true. It says what the page was like if it never is.
func (p *phone) until(expression string) {
	p.t.Helper()
	const look = `new Promise((done) => { const end = Date.now() + 45000; const look = () => { const now = Boolean(%s); if (now || Date.now() > end) done(now); else setTimeout(look, 15); }; look(); })`
	if eval[bool](p, fmt.Sprintf(look, expression)) {
		return
	}
	p.t.Fatalf("%s never came; there is %q; %q", expression, eval[string](p, `document.title + " / " + document.activeElement?.outerHTML + " / " + document.body.innerText`), p.problems)
}

// title waits until the page has a title, says it in large letters, and has the focus there.
func (p *phone) title(want string) {
	p.t.Helper()
	p.until(`document.title === ` + quoted(want) + ` && document.querySelector("h1").textContent === document.title && document.activeElement === document.querySelector("h1")`)
}

// tap taps what has a name, at its middle, with a finger.
func (p *phone) tap(name string) {
	p.t.Helper()
	type place struct{ X, Y float64 }
	at := eval[place](p, `(() => {
		const all = [...document.querySelectorAll("button, summary, .choice")].filter((b) => (b.getAttribute("aria-label") ?? b.textContent) === `+quoted(name)+`);
		if (all.length !== 1) throw new Error(all.length + " of them");
		all[0].scrollIntoView({block: "nearest"});
		const r = all[0].getBoundingClientRect();
		return {X: r.x + r.width / 2, Y: r.y + r.height / 2};
	})()`)
	call(p, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchStart, TouchPoints: []*input.TouchPoint{{X: at.X, Y: at.Y}}})
	call(p, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchEnd, TouchPoints: []*input.TouchPoint{}})
}

// pad taps digits.
func (p *phone) pad(digits string) {
	p.t.Helper()
	for _, d := range digits {
		p.tap(string(d))
	}
}

// text is a text of the pages in the language that is shown.
func (p *phone) text(key string, about ...any) string {
	p.t.Helper()
	if about == nil {
		about = []any{}
	}
	arguments, err := json.Marshal(about)
	must(p.t, err)
	return eval[string](p, fmt.Sprintf(`import(%q).then((m) => m.text(%q, ...%s))`, p.modules["text.js"], key, arguments))
}

// shows reports what does not stand on the page.
func (p *phone) shows(texts ...string) {
	p.t.Helper()
	page := eval[string](p, `document.body.innerText`)
	for _, want := range texts {
		if !strings.Contains(page, want) {
			p.t.Errorf("no %q in %q", want, page)
		}
	}
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }
