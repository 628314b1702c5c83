package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

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
	p.Title("Set up a passkey")
	p.Tap("Begin")
	p.Title("Create the passkey")
	p.Tap("Create passkey")
	p.Title("Enter the code")
	p.Pad("40718294")
	p.Tap("Next")
	p.Title("Wrong code")
	p.Tap("Enter the code again")
	p.Title("Enter the code")
	p.Pad("40718293")
	p.Tap("Next")
	p.Title("Your passkey is set")
	if got := p.calls(); !slices.Equal(got, []string{"Enrolment", "SetPasskey", "SetPasskey"}) {
		t.Error(got)
	}
	p.openLink(link)
	p.Title("This link cannot be used")

	code := p.newVoid(nil)
	p.openVoid(code)
	p.Title("Approve this void?")
	p.Shows("123.45", "CNY", "m-17", "t-1", "…0042")
	p.has(code, "CREATED", 3)
	p.calls()
	p.Tap("Approve with passkey")
	p.Title("Approved")
	if got := p.calls(); !slices.Equal(got, []string{"ApproveByPasskey"}) {
		t.Error(got)
	}
	p.has(code, "AUTHORIZED", 3)

	kept := eval[[]any](p, `Promise.all([document.cookie, localStorage.length, sessionStorage.length, caches.keys().then((k) => k.length), indexedDB.databases().then((d) => d.length), navigator.serviceWorker.getRegistrations().then((r) => r.length)])`)
	if got := fmt.Sprint(kept); got != "[ 0 0 0 0 0]" {
		t.Errorf("the phone keeps %s", got)
	}
	p.Quiet()
}

// A PIN is set behind a link and approves a void, with the language changed in between. The page never
// has a digit of it, and says how many there are.
func TestAVoidIsApprovedByAPIN(t *testing.T) {
	p := newPhone(t, serve(t), "zh-CN")
	p.openLink(p.newLink(dora))
	p.Title("设置主管密码")
	p.Tap("开始")
	p.Title("输入代码")
	p.Pad("40718293")
	p.Tap("下一步")
	for _, title := range []string{"新密码", "再输一次新密码"} {
		p.Title(title)
		p.typedUnseen("979868", func(n int) string { return fmt.Sprintf("已输入 %d 位", n) })
		p.Tap(map[string]string{"新密码": "下一步", "再输一次新密码": "完成"}[title])
	}
	p.Title("密码已设置")
	if got := p.calls(); !slices.Equal(got, []string{"Enrolment", "SetPIN"}) {
		t.Error(got)
	}

	code := p.newVoid(nil)
	p.openVoid(code)
	p.Title("批准撤销？")
	p.Tap("English")
	p.Until(`document.title === "Approve this void?" && document.documentElement.lang === "en" && document.activeElement.id === "language"`)
	p.Tap("Use PIN")
	p.Title("Supervisor")
	p.Do(chromedp.SendKeys(chromedp.ID("name"), "dora"))
	p.Tap("Next")
	p.Title("PIN of dora")
	p.Pad("97")
	p.Tap("中文")
	p.Until(`document.title === "dora 的密码" && document.querySelectorAll(".full").length === 2`)
	p.Tap("English")
	p.Until(`document.title === "PIN of dora"`)
	p.Tap("Delete one digit")
	p.Until(`document.querySelector("[role=status]").textContent === "One digit deleted, 1 left"`)
	p.Tap("Approve void of 123.45 CNY")
	p.Until(`document.querySelector("[role=status]").textContent === "6 digits or more"`)
	p.Pad("79868")
	p.Tap("Approve void of 123.45 CNY")
	p.Title("Approved")
	p.has(code, "AUTHORIZED", 3)
	p.openVoid(code)
	p.Title("已经批准") // the choice of language was kept nowhere
	p.Quiet()
}

// typedUnseen types digits, and looks for them in everything that the page has but the keys.
func (p *phone) typedUnseen(digits string, said func(int) string) {
	p.t.Helper()
	for i, d := range digits {
		p.Tap(string(d))
		p.Until(`document.querySelector("[role=status]").textContent === ` + quoted(said(i+1)))
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
	p.Title("Approve this void?")
	for _, want := range []string{"What to check first", "Approve with passkey", "Use PIN"} {
		p.focused(want)
	}
	p.Do(chromedp.KeyEvent("\r"))
	p.Title("Supervisor")
	p.focused("")
	p.Do(chromedp.KeyEvent("dora\t "), chromedp.KeyEvent(kb.ArrowDown)) // the other of two
	p.Until(`document.querySelectorAll("input[type=radio]")[1].checked`)
	p.focused("Next")
	p.Do(chromedp.KeyEvent("\r"))
	p.Title("PIN of dora")
	p.Do(chromedp.KeyEvent("73911\b04\r"))
	p.Title("Approved")
	p.has(code, "AUTHORIZED", 3)
	p.Quiet()
}

// focused goes on by a tabulator, and expects what has the focus then, which has to be seen.
func (p *phone) focused(want string) {
	p.t.Helper()
	for range 3 { // Chromium lets one stop at a part that scrolls
		p.Do(chromedp.KeyEvent("\t"))
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
	p.Title("Not verified")
	p.Shows("2 tries are left")
	p.has(code, "CREATED", 2)
	if got := p.calls(); !slices.Equal(got, []string{"Void", "ApproveByPIN", "ApproveByPIN"}) {
		t.Error(got)
	}
	p.lock.Lock()
	p.lose = 4
	p.lock.Unlock()
	p.Tap("Try again")
	p.approveByPIN("dora", "739104", "123.45 CNY")
	p.Title("The service is busy")
	p.has(code, "AUTHORIZED", 2)
	p.Tap("Send again")
	p.Title("Approved")
	if got := p.calls(); len(got) != 5 || len(p.answered) != 2 {
		t.Errorf("%q, %d of them different", got, len(p.answered))
	}
	p.Quiet()
}
