package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"keyd/fault"
	"keyd/pinrecord"
)

var dora = pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: "dora"}

// enrolled sets somebody's PIN, without a phone.
func (b *bank) enrolled(s pinrecord.Subject, pin string) {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.pins[s.Digest()] = pin
}

// has reports how a code's void stands.
func (b *bank) has(code, state string, tries int) {
	b.t.Helper()
	b.lock.Lock()
	defer b.lock.Unlock()
	if v := b.voids[code]; v.State != state || v.tries != tries {
		b.t.Errorf("the void is %s with %d tries, want %s with %d", v.State, v.tries, state, tries)
	}
}

// A passkey is made behind a link, by a code that is typed again when it was wrong, and approves a void.
// Nothing stays on the phone but the passkey.
func TestAVoidIsApprovedByAPasskey(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	link := p.newLink(pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "m-17", Name: "dora"})
	p.openLink(link)
	p.title("Set up a passkey")
	p.tap("Begin")
	p.title("Create the passkey")
	p.tap("Create passkey")
	p.title("Enter the code")
	p.pad("40718294")
	p.tap("Next")
	p.title("Wrong code")
	p.tap("Enter the code again")
	p.title("Enter the code")
	p.pad("40718293")
	p.tap("Next")
	p.title("Your passkey is set")
	if got := p.calls(); !slices.Equal(got, []string{"Enrolment", "SetPasskey", "SetPasskey"}) {
		t.Error(got)
	}
	p.openLink(link)
	p.title("This link cannot be used")

	code := p.newVoid(nil)
	p.openVoid(code)
	p.title("Approve this void?")
	p.shows("123.45", "CNY", "m-17", "t-1", "…0042")
	p.has(code, "CREATED", 3)
	p.calls()
	p.tap("Approve with passkey")
	p.title("Approved")
	if got := p.calls(); !slices.Equal(got, []string{"ApproveByPasskey"}) {
		t.Error(got)
	}
	p.has(code, "AUTHORIZED", 3)

	kept := eval[[]any](p, `Promise.all([document.cookie, localStorage.length, sessionStorage.length, caches.keys().then((k) => k.length), indexedDB.databases().then((d) => d.length), navigator.serviceWorker.getRegistrations().then((r) => r.length)])`)
	if got := fmt.Sprint(kept); got != "[ 0 0 0 0 0]" {
		t.Errorf("the phone keeps %s", got)
	}
	p.quiet()
}

// A PIN is set behind a link and approves a void, with the language changed in between. The page never
// has a digit of it, and says how many there are.
func TestAVoidIsApprovedByAPIN(t *testing.T) {
	p := newPhone(t, serve(t), "zh-CN")
	p.openLink(p.newLink(dora))
	p.title("设置主管密码")
	p.tap("开始")
	p.title("输入代码")
	p.pad("40718293")
	p.tap("下一步")
	for _, title := range []string{"新密码", "再输一次新密码"} {
		p.title(title)
		p.typedUnseen("979868", func(n int) string { return fmt.Sprintf("已输入 %d 位", n) })
		p.tap(map[string]string{"新密码": "下一步", "再输一次新密码": "完成"}[title])
	}
	p.title("密码已设置")
	if got := p.calls(); !slices.Equal(got, []string{"Enrolment", "SetPIN"}) {
		t.Error(got)
	}

	code := p.newVoid(nil)
	p.openVoid(code)
	p.title("批准撤销？")
	p.tap("English")
	p.until(`document.title === "Approve this void?" && document.documentElement.lang === "en" && document.activeElement.id === "language"`)
	p.tap("Use PIN")
	p.title("Supervisor")
	p.do(chromedp.SendKeys(chromedp.ID("name"), "dora"))
	p.tap("Next")
	p.title("PIN of dora")
	p.pad("97")
	p.tap("中文")
	p.until(`document.title === "dora 的密码" && document.querySelectorAll(".full").length === 2`)
	p.tap("English")
	p.until(`document.title === "PIN of dora"`)
	p.tap("Delete one digit")
	p.until(`document.querySelector("[role=status]").textContent === "One digit deleted, 1 left"`)
	p.tap("Approve void of 123.45 CNY")
	p.until(`document.querySelector("[role=status]").textContent === "6 digits or more"`)
	p.pad("79868")
	p.tap("Approve void of 123.45 CNY")
	p.title("Approved")
	p.has(code, "AUTHORIZED", 3)
	p.openVoid(code)
	p.title("已经批准") // the choice of language was kept nowhere
	p.quiet()
}

// typedUnseen types digits, and looks for them in everything that the page has but the keys.
func (p *phone) typedUnseen(digits string, said func(int) string) {
	p.t.Helper()
	for i, d := range digits {
		p.tap(string(d))
		p.until(`document.querySelector("[role=status]").textContent === ` + quoted(said(i+1)))
		left := eval[string](p, `(() => {
			const copy = document.documentElement.cloneNode(true);
			copy.querySelectorAll("head, .key, [role=status]").forEach((e) => e.remove());
			return copy.outerHTML + [...document.querySelectorAll("input")].map((e) => e.value);
		})()`)
		if strings.ContainsAny(left, "789") {
			p.t.Errorf("after %d digits: %s", i+1, left)
		}
	}
}

// With a keyboard alone: in the order in which things stand, and with the digits of the keyboard.
func TestAVoidIsApprovedByKeyboard(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	terminals := dora
	terminals.Terminal = "t-1"
	p.enrolled(terminals, "739104")
	code := p.newVoid(nil)
	p.openVoid(code)
	p.title("Approve this void?")
	for _, want := range []string{"What to check first", "Approve with passkey", "Use PIN"} {
		p.focused(want)
	}
	p.do(chromedp.KeyEvent("\r"))
	p.title("Supervisor")
	p.focused("")
	p.do(chromedp.KeyEvent("dora\t "), chromedp.KeyEvent(kb.ArrowDown)) // the other of two
	p.until(`document.querySelectorAll("input[type=radio]")[1].checked`)
	p.focused("Next")
	p.do(chromedp.KeyEvent("\r"))
	p.title("PIN of dora")
	p.do(chromedp.KeyEvent("73911\b04\r"))
	p.title("Approved")
	p.has(code, "AUTHORIZED", 3)
	p.quiet()
}

// focused goes on by a tabulator, and expects what has the focus then, which has to be seen.
func (p *phone) focused(want string) {
	p.t.Helper()
	for range 3 { // Chromium lets one stop at a part that scrolls
		p.do(chromedp.KeyEvent("\t"))
		if eval[string](p, `document.activeElement.tagName`) != "MAIN" {
			break
		}
	}
	got := eval[[]any](p, `[document.activeElement.textContent, document.activeElement.matches(":focus-visible"), getComputedStyle(document.activeElement).outlineStyle]`)
	if fmt.Sprint(got) != fmt.Sprintf("[%s true solid]", want) {
		p.t.Errorf("the focus is on %v, want %q", got, want)
	}
}

// A lost answer costs nothing: the same bytes are sent again, by the page and then by a tap, and count once.
func TestAnswersThatAreLost(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.enrolled(dora, "739104")
	code := p.newVoid(nil)
	p.openVoid(code)
	p.lock.Lock()
	p.lose = 1
	p.lock.Unlock()
	p.approveByPIN("dora", "111111", "123.45 CNY")
	p.title("Not verified")
	p.shows("2 tries are left")
	p.has(code, "CREATED", 2)
	if got := p.calls(); !slices.Equal(got, []string{"Void", "ApproveByPIN", "ApproveByPIN"}) {
		t.Error(got)
	}
	p.lock.Lock()
	p.lose = 4
	p.lock.Unlock()
	p.tap("Try again")
	p.approveByPIN("dora", "739104", "123.45 CNY")
	p.title("The service is busy")
	p.has(code, "AUTHORIZED", 2)
	p.tap("Send again")
	p.title("Approved")
	if got := p.calls(); len(got) != 5 || len(p.answered) != 2 {
		t.Errorf("%q, %d of them different", got, len(p.answered))
	}
	p.quiet()
}

// Nobody is asked for a PIN where the keys are not those of whoever signed the code.
func TestKeysThatAreNotBelieved(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	other := newBank(t)
	for name, change := range map[string]func(*Void){
		"a key that another has signed": func(v *Void) { v.Key = other.signedKey(time.Now().Add(time.Minute)) },
		"another signer of both":        func(v *Void) { v.Key, v.CodeKey = other.signedKey(time.Now().Add(time.Minute)), other.publicKey() },
		"a signer that is none":         func(v *Void) { v.CodeKey = []byte("no key") },
		"a signature that has expired":  func(v *Void) { v.Key = p.signedKey(time.Now().Add(-16 * time.Minute)) },
		"another end":                   func(v *Void) { v.Key.ExpiresAt++ },
		"another merchant":              func(v *Void) { v.Merchant = "m-18" },
		"another point":                 func(v *Void) { v.Key.Point = other.pageKey.PublicKey().Bytes() },
	} {
		p.openVoid(p.newVoid(change))
		p.title("Approve this void?")
		p.tap("Use PIN")
		p.title("Do not enter a PIN")
		if got := p.calls(); !slices.Equal(got, []string{"Void"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, lie := range map[string]func(*Enrolment){
		"another's name":       func(e *Enrolment) { e.Name = "emil" },
		"another's number":     func(e *Enrolment) { e.Subject[0] ^= 1 },
		"another approval":     func(e *Enrolment) { e.Approval = make([]byte, 32) },
		"another's signature":  func(e *Enrolment) { e.Key = other.signedKey(time.Now().Add(time.Minute)) },
		"a signature that was": func(e *Enrolment) { e.Key = p.signedKey(time.Now().Add(-16 * time.Minute)) },
	} {
		link := p.newLink(dora)
		p.links[link].lie = lie
		p.openLink(link)
		p.title("Do not enter a PIN")
		if got := p.calls(); !slices.Equal(got, []string{"Enrolment"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	code := p.newVoid(nil)
	altered := code[:100] + map[bool]string{true: "B", false: "A"}[code[100] == 'A'] + code[101:] // in the signature
	p.voids[altered] = p.voids[code]
	p.openVoid(altered)
	p.title("Approve this void?")
	p.tap("Use PIN")
	p.title("Do not enter a PIN")
	p.quiet()
}

// What a merchant is called is text. An amount that JavaScript cannot write is not shown.
func TestWhatComesIsText(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.openVoid(p.newVoid(func(v *Void) {
		v.Merchant, v.Reference = `<img src=x onerror="document.title='x'">`, `</dd><script>alert(1)</script>`
	}))
	p.title("Approve this void?")
	p.shows(`<img src=x onerror="document.title='x'">`, `</dd><script>alert(1)</script>`)
	if got := eval[string](p, `(() => { try { document.body.innerHTML = "<b>x</b>"; return "taken"; } catch (e) { return e.name; } })()`); got != "TypeError" {
		t.Errorf("text became markup: %s", got)
	}
	p.openVoid(p.newVoid(func(v *Void) { v.Amount = 1<<53 + 1 }))
	p.title("The browser is too old")
	for amount, want := range map[int64]string{1: "0.01", 123456789: "1,234,567.89", 9007199254740991: "90,071,992,547,409.91"} {
		p.openVoid(p.newVoid(func(v *Void) { v.Amount = amount }))
		p.title("Approve this void?")
		p.shows(want)
	}
	p.openVoid(p.newVoid(func(v *Void) { v.Amount, v.Currency, v.Digits = 500, "JPY", 0 }))
	p.title("Approve this void?")
	p.shows("500", "JPY")
}

// A void ends before somebody's eyes, and what the service may not say, the code says itself.
func TestAVoidThatEnds(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.openVoid(p.newVoid(func(v *Void) { v.ExpiresAt = time.Now().Add(2 * time.Second) }))
	p.title("Expired")
	p.failing(fault.VoidCodeRefused)
	p.openVoid(p.newVoid(nil))
	p.title("This code cannot be used")
	// The example of docs/void-code.md, long after its end.
	p.do(chromedp.Navigate("about:blank"))
	p.openVoid(textOfCode)
	if time.Now().After(time.Date(2026, 11, 27, 12, 1, 0, 0, time.UTC)) {
		p.title("Expired")
	} else {
		p.title("This code cannot be used")
	}
}

// Both languages say the same things, all of which are shown somewhere, and nothing else is.
func TestTexts(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.open("/p")
	p.title("This link cannot be used")
	var keys [2][]string
	for i, l := range []string{"zh", "en"} {
		keys[i] = eval[[]string](p, fmt.Sprintf(`import(%q).then((m) => m.keys(%q))`, p.modules["text.js"], l))
	}
	if !slices.Equal(keys[0], keys[1]) || len(keys[0]) < 100 {
		t.Errorf("%d and %d texts", len(keys[0]), len(keys[1]))
	}
	var source strings.Builder
	for _, m := range modules {
		if m != "text.js" {
			b, err := embedded.ReadFile("page/" + m)
			must(t, err)
			source.Write(b)
		}
	}
	all := source.String()
	for _, key := range keys[0] {
		base := strings.TrimSuffix(key, "_more")
		used := strings.Contains(all, quoted(key)) || key != base && strings.Contains(all, quoted(base)) || strings.HasPrefix(key, "guide_") || key == "language"
		if !used {
			t.Errorf("nothing shows %s", key)
		}
	}
	for _, part := range strings.Split(all, "text(\"")[1:] {
		if key, _, _ := strings.Cut(part, `"`); !slices.Contains(keys[0], key) {
			t.Errorf("there is no text %s", key)
		}
	}
}

// How long a page takes on slow networks is told, and not judged: machines differ.
func TestSlowNetworks(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	for _, c := range []struct {
		name          string
		latency, kbit float64
	}{{"GPRS, 50 kbit/s, 500 ms", 500, 50}, {"2G, 250 kbit/s, 300 ms", 300, 250}, {"3G, 750 kbit/s, 100 ms", 100, 750}} {
		p.network(false, c.latency, c.kbit*1000/8, c.kbit*1000/8)
		code := p.newVoid(nil)
		start := time.Now()
		p.openVoid(code)
		p.title("Approve this void?")
		first := time.Since(start)
		start = time.Now()
		p.openVoid(p.newVoid(nil))
		p.title("Approve this void?")
		t.Logf("%s: %.1f s until somebody can approve, %.1f s where the phone has the scripts", c.name, first.Seconds(), time.Since(start).Seconds())
		call(p, network.ClearBrowserCache, cdp.Empty{})
	}
}
