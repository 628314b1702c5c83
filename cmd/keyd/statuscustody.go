package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
)

// alike are modules that answer the same of every operation.
type alike struct {
	modules    []*keydv1.Token
	operations []*keydv1.OperationCustody
}

// alikes groups modules. They differ only while one is being replaced, after an update of keyd or
// of the token's library for one.
func alikes(tokens []*keydv1.Token) (groups []alike) {
	for _, t := range tokens {
		i := slices.IndexFunc(groups, func(g alike) bool {
			return slices.EqualFunc(g.operations, t.Operations, func(a, b *keydv1.OperationCustody) bool { return proto.Equal(a, b) })
		})
		if i < 0 {
			i = len(groups)
			groups = append(groups, alike{operations: t.Operations})
		}
		groups[i].modules = append(groups[i].modules, t)
	}
	return groups
}

// names names the modules: "module 0", "modules 0, 2".
func (g alike) names() string {
	var numbers []string
	for _, t := range g.modules {
		numbers = append(numbers, fmt.Sprint(t.Module))
	}
	word := "module "
	if len(numbers) > 1 {
		word = "modules "
	}
	return word + strings.Join(numbers, ", ")
}

// share says how many kinds of operation stay in the token.
func (g alike) share() string {
	n := 0
	for _, o := range g.operations {
		if o.Custody == keydv1.Custody_CUSTODY_TOKEN {
			n++
		}
	}
	return fmt.Sprintf("%d of %d kinds of operation stay in the token", n, len(g.operations))
}

// custodyLine says the same in a line for all modules.
func custodyLine(tokens []*keydv1.Token) string {
	groups := alikes(tokens)
	switch len(groups) {
	case 0:
		return "unknown: no module answers"
	case 1:
		return groups[0].share() + " (--custody lists them)"
	}
	var lines []string
	for _, g := range groups {
		lines = append(lines, g.names()+": "+g.share())
	}
	return "MODULES DIFFER: " + strings.Join(lines, "; ") + " (--custody lists them)"
}

// custodyWords are how the table calls a custody, which is also what a policy calls it.
var custodyWords = map[keydv1.Custody]string{keydv1.Custody_CUSTODY_TOKEN: "token", keydv1.Custody_CUSTODY_MODULE: "module"}

// writeCustody writes a table of every kind of operation, one for modules that are alike.
func writeCustody(w io.Writer, tokens []*keydv1.Token) {
	groups := alikes(tokens)
	if len(groups) == 0 {
		row(w, "no module answers: nobody can say what stays in the token")
	}
	if len(groups) > 1 {
		row(w, "MODULES DIFFER: one may be being replaced; ask again. Any of them may carry an operation out.")
		row(w)
	}
	for i, g := range groups {
		if i > 0 {
			row(w)
		}
		t := g.modules[0]
		row(w, fmt.Sprintf("%s, token %s (%s %s): %s", g.names(), t.Label, t.Manufacturer, t.Model, g.share()))
		row(w)
		row(w, "OPERATION", "CUSTODY", "WHY NOT IN THE TOKEN")
		for _, o := range g.operations {
			word, known := custodyWords[o.Custody]
			if !known {
				word = o.Custody.String()
			}
			row(w, o.Operation, word, dash(o.Why))
		}
	}
	row(w)
	row(w, "token: every clear value stays inside the token (CUSTODY_TOKEN). module: one is in a module's locked memory for microseconds (CUSTODY_MODULE).")
	row(w, "A policy's rule with custody: token allows only the former.")
}
