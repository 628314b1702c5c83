package main

import (
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

func operationRows(why string) []*keydv1.OperationCustody {
	rows := []*keydv1.OperationCustody{{Operation: "MACs", Custody: keydv1.Custody_CUSTODY_TOKEN}, {Operation: "PINs", Custody: keydv1.Custody_CUSTODY_TOKEN}}
	if why != "" {
		rows[1].Custody, rows[1].Why = keydv1.Custody_CUSTODY_MODULE, why
	}
	return rows
}

// TestCustodyOfModules: modules that are alike have one table; while they differ, each kind has
// one, and nobody reads the better for the whole.
func TestCustodyOfModules(t *testing.T) {
	token := func(module int32, why string) *keydv1.Token {
		return &keydv1.Token{Module: module, Label: "keyd", Manufacturer: "maker", Model: "model", Operations: operationRows(why)}
	}
	for name, c := range map[string]struct {
		tokens  []*keydv1.Token
		line    string
		table   []string
		headers int
	}{
		"none": {nil, "unknown: no module answers", []string{"no module answers"}, 0},
		"all in the token": {[]*keydv1.Token{token(0, "")}, "2 of 2 kinds of operation stay in the token (--custody lists them)",
			[]string{"module 0, token keyd (maker model): 2 of 2", "PINs\ttoken\t-"}, 1},
		"alike": {[]*keydv1.Token{token(0, "lack"), token(1, "lack")}, "1 of 2 kinds of operation stay in the token (--custody lists them)",
			[]string{"modules 0, 1, token", "MACs\ttoken\t-", "PINs\tmodule\tlack"}, 1},
		"different": {[]*keydv1.Token{token(0, "lack"), token(1, ""), token(2, "lack")},
			"MODULES DIFFER: modules 0, 2: 1 of 2 kinds of operation stay in the token; module 1: 2 of 2 kinds of operation stay in the token (--custody lists them)",
			[]string{"MODULES DIFFER", "modules 0, 2, token", "module 1, token", "PINs\tmodule\tlack", "PINs\ttoken\t-"}, 2},
		"different reasons": {[]*keydv1.Token{token(0, "lack"), token(1, "other")},
			"MODULES DIFFER: module 0: 1 of 2 kinds of operation stay in the token; module 1: 1 of 2 kinds of operation stay in the token (--custody lists them)",
			[]string{"PINs\tmodule\tlack", "PINs\tmodule\tother"}, 2},
	} {
		if got := custodyLine(c.tokens); got != c.line {
			t.Errorf("%s: %q", name, got)
		}
		var b strings.Builder
		writeCustody(&b, c.tokens)
		for _, want := range c.table {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %q is not in\n%s", name, want, b.String())
			}
		}
		if got := strings.Count(b.String(), "OPERATION\t"); got != c.headers {
			t.Errorf("%s: %d tables", name, got)
		}
	}
}
