package web

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"keyd/web/chromium"
)

// What is asked of every state of a page: what people need who hold a small phone in one hand, in the
// sun, or who do not see it.
const (
	leastTarget   = 48.0 // CSS pixels, WCAG 2.2 asks for 24 (2.5.8) or 44 (2.5.5)
	leastContrast = 7.0  // WCAG 2.2, 1.4.6
)

// looks is what a script measures of a page.
type looks struct {
	Wide      bool     // it is wider than the screen
	Small     []string // controls that are smaller than they have to be
	Faint     []string // texts without contrast
	Hidden    []string // controls that lie under others, where they are scrolled to
	Unnamed   int      // groups and regions
	Announced int      // live regions
}

const measure = `(() => {
	const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
	const colour = (text) => text.match(/[\d.]+/g).map(Number);
	const behind = (element) => {
		for (let e = element; e; e = e.parentElement) {
			const c = colour(getComputedStyle(e).backgroundColor);
			if (c.length === 3 || c[3] === 1) return c;
			if (c[3] !== 0) throw new Error("half transparent");
		}
		return colour(getComputedStyle(document.documentElement).backgroundColor);
	};
	const seen = (e) => e.checkVisibility({visibilityProperty: true}) && !e.closest(".unseen");
	const faint = [];
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement;
		if (!walker.currentNode.textContent.trim() || !seen(e)) continue;
		const [a, b] = [luminance(colour(getComputedStyle(e).color)), luminance(behind(e))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < %v) faint.push(contrast.toFixed(1) + " " + walker.currentNode.textContent);
	}
	const small = [], hidden = [];
	for (const e of document.querySelectorAll("button, summary, input[type=text], .choice")) {
		if (!seen(e)) continue;
		e.scrollIntoView({block: "center"});
		const r = e.getBoundingClientRect();
		if (r.width < %v || r.height < %v) small.push(r.width + "x" + r.height + " " + e.outerHTML);
		const top = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
		if (!e.contains(top)) hidden.push(e.outerHTML + " under " + top?.outerHTML);
	}
	document.querySelector("main").scrollTop = 0;
	return {
		Wide: ["html", "body", "main"].map((e) => document.querySelector(e)).some((e) => e.scrollWidth > e.clientWidth),
		Small: small, Faint: faint, Hidden: hidden, Unnamed: document.querySelectorAll("[role=group]:not([aria-label]), [role=region]:not([hidden]):not([aria-label])").length,
		Announced: document.querySelectorAll("[role=status][aria-live=polite]").length,
	};
})()`

// looked measures the state that the phone shows, reads its accessibility tree as Chromium gives it to a
// screen reader, and keeps a picture in the folder that KEYD_PICTURES names.
func (p *phone) looked(name string) {
	p.t.Helper()
	got := eval[looks](p, fmt.Sprintf(measure, leastContrast, leastTarget, leastTarget))
	if got.Wide || len(got.Small) > 0 || len(got.Faint) > 0 || len(got.Hidden) > 0 || got.Unnamed > 0 || got.Announced != 1 {
		p.t.Errorf("%s: %+v", name, got)
	}
	p.readOut(name)
	if folder := os.Getenv("KEYD_PICTURES"); folder != "" {
		picture, err := chromedp.Run(p.Phone, chromedp.CaptureScreenshot())
		must(p.t, err)
		must(p.t, os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600))
	}
}

// controls are roles of what somebody uses.
var controls = []string{"button", "textbox", "radio", "DisclosureTriangle", "link", "checkbox"}

// readOut goes through what a screen reader is given: every control has a name, there is one heading,
// a main part, and a place where news are read out.
func (p *phone) readOut(name string) {
	p.t.Helper()
	roles := map[string]int{}
	for _, n := range call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role := strings.Trim(string(n.Role.Value), `"`)
		roles[role]++
		named := n.Name != nil && strings.Trim(string(n.Name.Value), `" `) != ""
		if !named && (slices.Contains(controls, role) || role == "heading") {
			p.t.Errorf("%s: a %s without a name", name, role)
		}
	}
	if roles["heading"] != 1 || roles["main"] != 1 || roles["status"] != 1 || roles["button"] < 1 {
		p.t.Errorf("%s: %v", name, roles)
	}
}

// show sets how the screen is: its size, and what its owner prefers.
func (p *phone) show(width, height int64, scheme, motion string) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 2, Mobile: true})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion}}})
}

// Every state of the pages, in both languages, each on a light and a dark screen.
func TestHowPagesLook(t *testing.T) {
	for _, c := range []struct {
		language, scheme, motion string
		width, height            int64
	}{
		{"zh-CN", "light", "no-preference", chromium.Width, chromium.Height},
		{"en", "dark", "reduce", chromium.Width, chromium.Height},
		{"en", "light", "reduce", 320, 568},
		{"zh-CN", "dark", "no-preference", 320, 568},
	} {
		name := fmt.Sprintf("%s-%s-%d", c.language, c.scheme, c.width)
		t.Run(name, func(t *testing.T) {
			p := newPhone(t, serve(t), c.language)
			p.show(c.width, c.height, c.scheme, c.motion)
			var axe axeFound
			states := 0
			p.walk(func(state string) {
				states++
				p.looked(name + "-" + state)
				p.checkedByAxe(name+"-"+state, &axe)
			})
			if axe.Version != "" {
				t.Logf("axe-core %s: %d states, %d times a rule was met, %d findings", axe.Version, states, axe.Passed, len(axe.Wrong))
			}
		})
	}
}
