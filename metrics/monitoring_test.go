package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"keyd/terminals"
)

// exported returns every metric of keyd's with its labels.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	descs := make(chan *prometheus.Desc, 1000)
	m := New()
	m.Requests.unavailable.Describe(descs)
	m.Requests.total.Describe(descs)
	m.Requests.operations.Describe(descs)
	m.Requests.auditFailed.Describe(descs)
	m.Reloads.total.Describe(descs)
	c := reflect.ValueOf(*newCollector(Sources{}))
	close(descs)
	text := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	add := func(d string) {
		parts := text.FindStringSubmatch(d)
		if parts == nil {
			t.Fatalf("%s is not understood", d)
		}
		var labels []string
		if parts[2] != "" {
			labels = strings.Split(parts[2], ",")
		}
		found[parts[1]] = labels
	}
	for d := range descs {
		add(d.String())
	}
	for i := range c.NumField() {
		if d, ok := c.Type().Field(i).Type, c.Field(i).Kind() == reflect.Pointer; ok && d == reflect.TypeFor[*prometheus.Desc]() {
			add((*prometheus.Desc)(c.Field(i).UnsafePointer()).String())
		}
	}
	for name, family := range gather(t, m.Gatherer()) {
		if _, ok := found[name]; !ok {
			found[name] = nil
			for _, l := range family.Metric[0].Label {
				found[name] = append(found[name], l.GetName())
			}
		}
	}
	return found
}

var (
	metricName = regexp.MustCompile(`\b((?:keyd|go)_[a-z0-9_]+)(\{[^}]*\})?`)
	labelName  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(?:by|without)\s*\(([^)]*)\)`)
)

// values are what the labels that rules ask for can be.
var values = map[string][]string{
	"method": methods, "reason": reasons, "state": states(), "role": {"front", "module"},
	"kind": {registerLoaded, registerPinned}, "server": {"true", "false"}, "document": terminals.EndKinds,
	"class": {"token_dead", "session_dead", "handle_stale", "busy", "refused", "bug", "login_failed"},
}

func states() (names []string) {
	for _, p := range phases {
		names = append(names, string(p))
	}
	return names
}

// checkMatcher finds values that no series has.
func checkMatcher(t *testing.T, where, label, operator, value string) {
	t.Helper()
	have, known := values[label]
	if !known {
		if label != "job" && !strings.HasPrefix(value, "$") {
			t.Errorf("%s: the values of %s are not known here", where, label)
		}
		return
	}
	alternatives := []string{value}
	if strings.HasSuffix(operator, "~") {
		alternatives = strings.Split(value, "|")
	}
	for _, a := range alternatives {
		if strings.HasPrefix(a, "$") { // a variable of the dashboard
			continue
		}
		exact := regexp.MustCompile("^(?:" + a + ")$")
		if !slices.ContainsFunc(have, func(v string) bool { return operator[len(operator)-1] == '~' && exact.MatchString(v) || v == a }) {
			t.Errorf("%s: no %s is %q", where, label, a)
		}
	}
}

// TestEveryReasonIsThere: the first refusal of its kind is an increase.
func TestEveryReasonIsThere(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range gather(t, New().Gatherer())["keyd_requests_total"].Metric {
		labels := map[string]string{}
		for _, l := range m.Label {
			labels[l.GetName()] = l.GetValue()
		}
		if m.GetCounter().GetValue() != 0 {
			t.Errorf("%v has counted", labels)
		}
		seen[labels["method"]+" "+labels["reason"]] = true
	}
	for _, method := range methods {
		for _, reason := range reasons {
			if !seen[method+" "+reason] {
				t.Errorf("no series of %s of %s", reason, method)
			}
		}
	}
}

// checkExpression finds metrics and labels that keyd does not have.
func checkExpression(t *testing.T, where, expression string, names map[string][]string) {
	t.Helper()
	if strings.Count(expression, "(") != strings.Count(expression, ")") || strings.Count(expression, "{") != strings.Count(expression, "}") {
		t.Errorf("%s: brackets do not match: %s", where, expression)
	}
	any := false
	var labels []string
	for _, found := range metricName.FindAllStringSubmatch(expression, -1) {
		any = true
		name := found[1]
		have, ok := names[name]
		if base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""); !ok && base != name {
			if have, ok = names[base]; ok {
				have = append(slices.Clone(have), "le")
			}
		}
		if !ok {
			t.Errorf("%s: keyd has no metric %s", where, name)
			continue
		}
		labels = append(labels, have...)
		for _, l := range labelName.FindAllStringSubmatch(found[2], -1) {
			if !slices.Contains(append(have, "job", "instance"), l[1]) {
				t.Errorf("%s: %s has no label %s", where, name, l[1])
			}
		}
		for _, m := range matcher.FindAllStringSubmatch(found[2], -1) {
			checkMatcher(t, where, m[1], m[2], m[3])
		}
	}
	for _, group := range grouping.FindAllStringSubmatch(expression, -1) {
		for l := range strings.SplitSeq(group[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(append(labels, "job", "instance"), l) {
				t.Errorf("%s: no label %s in %s", where, l, expression)
			}
		}
	}
	if !any && !strings.Contains(expression, "up{") {
		t.Errorf("%s: no metric in %s", where, expression)
	}
}

// TestAlarms reads the rules as Prometheus would, and wants a page for each.
func TestAlarms(t *testing.T) {
	var file struct {
		Groups []struct {
			Name     string `yaml:"name"`
			Interval string `yaml:"interval"`
			Rules    []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	b := read(t, "../monitoring/alerts.yaml")
	if err := yaml.UnmarshalWithOptions(b, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	page := string(read(t, "../docs/alarms.md"))
	names := exported(t)
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] {
				t.Errorf("%q: no name, or twice", r.Alert)
			}
			seen[r.Alert] = true
			checkExpression(t, r.Alert, r.Expr, names)
			if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) || r.Annotations["summary"] == "" {
				t.Errorf("%s: severity %q, summary %q", r.Alert, r.Labels["severity"], r.Annotations["summary"])
			}
			if !strings.Contains(page, "\n### "+r.Alert+"\n") {
				t.Errorf("docs/alarms.md does not say what to do about %s", r.Alert)
			}
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(page, -1) {
		if !seen[heading[1]] {
			t.Errorf("docs/alarms.md has %s, for which there is no rule", heading[1])
		}
	}
	if len(seen) == 0 {
		t.Error("no rules")
	}
}

func TestDashboard(t *testing.T) {
	type panel struct {
		Title   string `json:"title"`
		Type    string `json:"type"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	}
	var board struct {
		Title      string  `json:"title"`
		Panels     []panel `json:"panels"`
		Templating struct {
			List []struct {
				Query any `json:"query"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(read(t, "../monitoring/dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	names := exported(t)
	expressions := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			expressions++
			checkExpression(t, p.Title, target.Expr, names)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
	}
	if board.Title == "" || expressions == 0 {
		t.Error("an empty dashboard")
	}
}

// The pages name no metric that is not there.
func TestPagesNameMetricsThatExist(t *testing.T) {
	names := exported(t)
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, found := range regexp.MustCompile("`(keyd_[a-z_]+)[`{]").FindAllStringSubmatch(string(read(t, page)), -1) {
			if _, ok := names[found[1]]; !ok {
				t.Errorf("%s: keyd has no metric %s", page, found[1])
			}
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
