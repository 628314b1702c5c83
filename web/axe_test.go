package web

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// axeVariable names the file of axe-core (axe.min.js) by which each state of the pages is checked besides. It
// is not vendored: nobody keeps it as a Go module.
const axeVariable = "KEYD_AXE"

// axeTags are the rules of WCAG 2.2, A to AAA, and what axe-core calls best practice.
var axeTags = []string{"wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"}

// axeUnsure are the rules of which axe-core cannot say whether they are kept, and what says it here.
var axeUnsure = map[string]string{
	"color-contrast":              "of signs and of what is scrolled under the buttons: measured, see leastContrast",
	"color-contrast-enhanced":     "likewise",
	"hidden-content":              "the place of the buttons, in states that have none",
	"label-content-name-mismatch": "the key with ⌫ alone says what it does",
	"scrollable-region-focusable": "what is in it takes the focus, and scrolls it",
}

// axeFound is what axe-core says of a page.
type axeFound struct {
	Version string
	Wrong   []string            // what breaks a rule
	Unsure  map[string][]string // what somebody has to look at, by rule
	Passed  int                 // rules that something of the page was held against
	Unknown []string            // tags of no rule
}

const axeRun = `(async (tags) => {
	const all = axe.getRules().flatMap((r) => r.tags);
	const off = Object.fromEntries(axe.getRules(tags).map((r) => [r.ruleId, {enabled: true}])); // also those that are off by default
	const r = await axe.run(document, {runOnly: {type: "tag", values: tags.filter((t) => all.includes(t))}, rules: off});
	const list = (v) => v.nodes.map((n) => v.id + ": " + n.html + ": " + n.failureSummary);
	return JSON.stringify({
		Version: axe.version, Wrong: r.violations.flatMap(list), Unsure: Object.fromEntries(r.incomplete.map((v) => [v.id, list(v)])), Passed: r.passes.length,
		Unknown: tags.filter((t) => !all.includes(t)),
	});
})(%s)`

// checkedByAxe checks the state that the phone shows by axe-core, where the environment names that, and
// counts states and rules in sum. It runs in a world of its own, as an extension does: the page lets no
// script in but its own.
func (p *phone) checkedByAxe(name string, sum *axeFound) {
	p.t.Helper()
	path := os.Getenv(axeVariable)
	if path == "" {
		return
	}
	source, err := os.ReadFile(path)
	must(p.t, err)
	tags, err := json.Marshal(axeTags)
	must(p.t, err)
	frame := call(p, page.GetFrameTree, cdp.Empty{}).FrameTree.Frame.ID
	world := call(p, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: frame, WorldName: "axe"}).ExecutionContextID
	var text string
	for _, script := range []string{string(source) + "; axe.version", fmt.Sprintf(axeRun, tags)} {
		got := call(p, runtime.Evaluate, runtime.EvaluateParams{Expression: script, ContextID: world, AwaitPromise: new(true), ReturnByValue: new(true)})
		if got.ExceptionDetails != nil {
			p.t.Fatalf("%s: axe-core: %s %v", name, got.ExceptionDetails.Text, got.ExceptionDetails.Exception)
		}
		must(p.t, json.Unmarshal(got.Result.Value, &text))
	}
	var found axeFound
	must(p.t, json.Unmarshal([]byte(text), &found))
	if found.Passed < 20 || len(found.Unknown) > 0 {
		p.t.Errorf("%s: axe-core has met %d rules, and has none of %q", name, found.Passed, found.Unknown)
	}
	for rule, list := range found.Unsure {
		if axeUnsure[rule] == "" {
			found.Wrong = append(found.Wrong, list...)
		}
	}
	for _, w := range found.Wrong {
		p.t.Errorf("%s: axe-core: %s", name, w)
	}
	sum.Version, sum.Passed, sum.Wrong = found.Version, sum.Passed+found.Passed, append(sum.Wrong, found.Wrong...)
}
