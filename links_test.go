package keyd_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestLinksLeadSomewhere: every file that the manuals link to is there.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	var manuals []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		manuals = append(manuals, found...)
	}
	links := 0
	for _, manual := range manuals {
		text, err := os.ReadFile(manual)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(manual), string(m[1]))); err != nil {
				t.Errorf("%s: %v", manual, err)
			}
		}
	}
	if links < 20 {
		t.Errorf("%d links were found", links)
	}
}
