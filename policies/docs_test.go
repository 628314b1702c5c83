package policies

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDocumentedRules: every rule that docs/policies.md shows can be written, and does
// what stands above it.
func TestDocumentedRules(t *testing.T) {
	b, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for rest := string(b); ; {
		var block string
		var ok bool
		if _, rest, ok = strings.Cut(rest, "```yaml\n"); !ok {
			break
		}
		block, rest, _ = strings.Cut(rest, "```")
		if strings.HasPrefix(block, "- methods") {
			rules = append(rules, block)
			continue
		}
		mustParse(t, []byte("version: 1\nidentities: []\nroles: {}\n"+block))
	}
	const office, night = "2026-07-01T08:30:00+02:00", "2026-07-01T22:30:00+02:00"
	type question struct {
		last    string // segment of the identity
		method  string
		keys    []Key
		address string
		at      string
		want    bool
		about   *Terminal
	}
	bdk, visa := Key{Name: "acquirer.bdk.1", Usage: "B0", KSN: tdesKSN}, Key{Name: "network.zpk.visa", Usage: "P0"}
	data, pvk := Key{Name: "support.data", Usage: "D0"}, Key{Name: "issuer.pvk", Usage: "V2"}
	zone := Key{Name: "acquirer.zpk.1", Usage: "P0"}
	mac := Key{Name: "migration.mac", Usage: "M3"}
	issuer := []Key{{Name: "issuer.zpk", Usage: "P0"}, pvk}
	own := "FFFF9876543210E0"
	questions := [][]question{
		{ // key names and usages
			{"x", translate, []Key{bdk, visa}, "10.0.0.1", office, true, nil},
			{"x", translate, []Key{bdk, {Name: "network.zpk.other", Usage: "P0"}}, "10.0.0.1", office, false, nil},
			{"x", translate, []Key{{Name: "acquirer.bdk.1", Usage: "K0"}, visa}, "10.0.0.1", office, false, nil},
			{"x", verify, []Key{bdk, visa}, "10.0.0.1", office, false, nil},
		},
		{ // by their usages
			{"x", translate, []Key{bdk, visa}, "10.0.0.1", office, true, nil},
			{"x", translate, []Key{visa, bdk}, "10.0.0.1", office, false, nil},
			{"x", translate, []Key{zone, visa}, "10.0.0.1", office, false, nil},
			{"x", translate, []Key{bdk, zone}, "10.0.0.1", office, false, nil},
		},
		{ // custody
			{"x", translate, []Key{visa, visa}, "10.0.0.1", office, true, nil},
		},
		{ // client networks
			{"x", verify, issuer, "10.20.3.4", office, true, nil},
			{"x", verify, issuer, "2001:db8:20::7", office, true, nil},
			{"x", verify, issuer, "10.21.3.4", office, false, nil},
			{"x", verify, issuer, "", office, false, nil},
		},
		{ // time of day
			{"x", "DataService/DecryptData", []Key{data}, "10.0.0.1", office, true, nil},
			{"x", "DataService/DecryptData", []Key{data}, "10.0.0.1", night, false, nil},
			{"x", "DataService/DecryptData", []Key{data}, "10.0.0.1", "2026-07-04T12:00:00+02:00", false, nil}, // a Saturday
			{"x", "DataService/DecryptData", []Key{data}, "10.0.0.1", "", false, nil},
		},
		{ // until a date
			{"x", "MacService/GenerateMac", []Key{mac}, "10.0.0.1", "2026-12-31T23:59:59Z", true, nil},
			{"x", "MacService/GenerateMac", []Key{mac}, "10.0.0.1", "2027-01-01T00:00:00Z", false, nil},
		},
		{ // peers of the keys
			{"x", translate, []Key{{Name: "a", Usage: "B0", Peers: []string{"acquirer"}}, {Name: "b", Usage: "P0", Peers: []string{"issuer", "acquirer"}}}, "10.0.0.1", office, true, nil},
			{"x", translate, []Key{{Name: "a", Usage: "B0", Peers: []string{"acquirer"}}, {Name: "b", Usage: "P0", Peers: []string{"issuer"}}}, "10.0.0.1", office, false, nil},
			{"x", translate, []Key{{Name: "a", Usage: "B0"}, {Name: "b", Usage: "P0", Peers: []string{"acquirer"}}}, "10.0.0.1", office, false, nil},
		},
		{ // a terminal's own key serial numbers
			{own, "MacService/VerifyMac", []Key{bdk}, "10.0.0.1", office, true, nil},
			{"FFFF9876543210C0", "MacService/VerifyMac", []Key{bdk}, "10.0.0.1", office, false, nil},
			{own, "MacService/VerifyMac", []Key{{Name: "acquirer.bdk.1", Usage: "B0"}}, "10.0.0.1", office, false, nil},
			{"1234567890123456", "DataService/EncryptData", []Key{{Name: "acquirer.bdk.a", Usage: "B0", KSN: aesKSN}}, "10.0.0.1", office, true, nil},
		},
		{ // officers
			{"x", "CeremonyService/ApproveCeremony", nil, "10.0.0.1", office, true, nil},
			{"x", "KeyService/CreateKey", nil, "10.0.0.1", office, true, nil},
			{"x", "KeyService/TagResource", []Key{visa}, "10.0.0.1", office, true, nil},
			{"x", "KeyService/TagResource", []Key{pvk}, "10.0.0.1", office, false, nil},
			{"x", "KeyService/UpdateAlias", []Key{visa, pvk}, "10.0.0.1", office, false, nil},
			{"x", "KeyService/GetKey", []Key{{Name: "acquirer.new"}}, "10.0.0.1", office, true, nil}, // there is none of that name: it may be told so
			{"x", translate, []Key{bdk, visa}, "10.0.0.1", office, false, nil},
		},
		{ // terminals get their keys
			{"x", "TerminalService/InjectKeys", nil, "10.0.0.1", office, true, nil},
			{"x", "TerminalService/UnbindTerminal", nil, "10.0.0.1", office, false, nil},
		},
		{ // and use their session keys: of no host
			{"x", "MacService/VerifyMac", []Key{{Name: "terminal:t-1:mac", Usage: "M3"}}, "10.0.0.1", office, false, nil},
			{"x", "MacService/VerifyMac", []Key{bdk}, "10.0.0.1", office, false, nil},
		},
		{ // the legacy form
			{"x", "TerminalService/SignIn", nil, "10.0.0.1", office, true, &Terminal{ID: "t-1", Model: "P400"}},
			{"x", "TerminalService/SignIn", nil, "10.0.0.1", office, false, &Terminal{ID: "t-1", Model: "P500"}},
			{"x", "TerminalService/SignIn", nil, "10.0.0.1", "2027-07-01T00:00:00Z", false, &Terminal{ID: "t-1", Model: "P400"}},
			{"x", "TerminalService/ConfirmKeys", nil, "10.0.0.1", office, false, &Terminal{ID: "t-1", Model: "P400"}},
		},
		{ // an auditor who reads keys
			{"x", "KeyService/GetKey", []Key{bdk}, "10.0.0.1", office, true, nil},
			{"x", "KeyService/GetKey", []Key{visa}, "10.0.0.1", office, false, nil},
			{"x", "KeyService/ListTagsForResource", []Key{zone}, "10.0.0.1", office, true, nil},
			{"x", "KeyService/ListKeys", nil, "10.0.0.1", office, true, nil},
			{"x", "KeyService/TagResource", []Key{bdk}, "10.0.0.1", office, false, nil},
			{"x", "KeyService/DeleteKey", nil, "10.0.0.1", office, false, nil},
			{"x", "CeremonyService/ListCeremonies", nil, "10.0.0.1", office, false, nil},
		},
		{ // the terminals of one merchant
			{"m-17", "TerminalService/RegisterTerminal", nil, "10.0.0.1", office, true, &Terminal{ID: "t-1", Owner: "m-17", Model: "P400"}},
			{"m-17", "TerminalService/RetireTerminal", nil, "10.0.0.1", office, false, &Terminal{ID: "t-2", Owner: "m-18", Model: "P400"}},
			{"m-17", "TerminalService/GetTerminal", nil, "10.0.0.1", office, false, &Terminal{ID: "t-none"}},
			{"m-17", "TerminalService/ListTerminals", nil, "10.0.0.1", office, true, &Terminal{Owner: "m-17"}},
			{"m-17", "TerminalService/ListTerminals", nil, "10.0.0.1", office, false, &Terminal{}},
			{"m-17", "TerminalService/ListTerminals", nil, "10.0.0.1", office, false, nil},
		},
	}
	if len(rules) != len(questions) {
		t.Fatalf("the document has %d rules, this test asks %d", len(rules), len(questions))
	}
	for i, rule := range rules {
		p := mustParse(t, []byte("version: 1\nidentities: [{id: spiffe://bank.example/host/*, roles: [a]}]\nroles:\n  a:\n    "+strings.ReplaceAll(rule, "\n", "\n    ")+"\n"))
		for _, q := range questions[i] {
			r := Request{Identity: "spiffe://bank.example/host/" + q.last, Method: q.method, Keys: q.keys, Terminal: q.about}
			if q.address != "" {
				r.Address = netip.MustParseAddr(q.address)
			}
			if q.at != "" {
				if r.At, err = time.Parse(time.RFC3339, q.at); err != nil {
					t.Fatal(err)
				}
			}
			if d := p.Authorize(r); d.Allowed != q.want {
				t.Errorf("rule %d: %+v: %+v", i+1, q, d)
			} else if wants := strings.Contains(rule, "custody: token"); q.want && wants != (d.Demand.Custody == TokenCustody) {
				t.Errorf("rule %d: demands %v", i+1, d.Demand)
			}
		}
	}
	// What can be looked at is in the document, and what is documented can be.
	for name, table := range map[string]string{identityTypeName: "| variable |", terminalTypeName: "| variable |", keyTypeName: "| field of a key |"} {
		_, rows, _ := strings.Cut(string(b), "\n"+table)
		rows, _, _ = strings.Cut(rows, "\n\n")
		prefix := ""
		switch name {
		case identityTypeName:
			prefix = "identity."
		case terminalTypeName:
			prefix = "terminal."
		}
		var want, documented []string
		for _, f := range facts[name] {
			want = append(want, prefix+f.name)
		}
		for _, row := range regexp.MustCompile("(?m)^\\| `("+regexp.QuoteMeta(prefix)+"[a-z_]+)` \\|").FindAllStringSubmatch(rows, -1) {
			documented = append(documented, row[1])
		}
		if slices.Sort(want); !slices.Equal(want, slices.Sorted(slices.Values(documented))) {
			t.Errorf("%s has %v, and the document %v", name, want, documented)
		}
	}
}
