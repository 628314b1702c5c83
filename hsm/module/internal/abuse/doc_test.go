package abuse_test

import (
	"os"
	"strings"
	"testing"

	"keyd/hsm/module/internal/abuse"
)

// TestManualHasTheTable: docs/custody.md has every chapter with exactly the rows of the table.
func TestManualHasTheTable(t *testing.T) {
	manual, err := os.ReadFile("../../../../docs/custody.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range abuse.Chapters {
		if want := table(c); !strings.Contains(string(manual), want) {
			t.Errorf("docs/custody.md lacks this table, or has another:\n%s", want)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range abuse.Chapters {
		for _, a := range c.Attempts {
			if seen[a.Name] || a.Name == "" || a.SoftHSM == "" || a.NSS == "" || a.Closes == "" {
				t.Errorf("%q stands twice, or says too little", a.Name)
			}
			seen[a.Name] = true
		}
	}
}

// table is a chapter as the manual has it.
func table(c abuse.Chapter) string {
	var b strings.Builder
	b.WriteString("| " + c.Title + " | SoftHSM 2.6.1 | NSS softokn 3.87 | what closes it |\n|---|---|---|---|\n")
	for _, a := range c.Attempts {
		b.WriteString("| " + strings.Join([]string{a.Name, code(a.SoftHSM), code(a.NSS), a.Closes}, " | ") + " |\n")
	}
	return b.String()
}

// code sets refusals as code.
func code(outcome string) string {
	if call, name, refused := strings.Cut(outcome, ": CKR_"); refused {
		return "`" + call + "`: `CKR_" + name + "`"
	}
	return outcome
}
