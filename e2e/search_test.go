package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// search looks for secrets wherever they must not be.
type search struct {
	t     *testing.T
	forms map[string]string
	index *prefixIndex
	found func(where, what string)
}

func newSearch(t *testing.T, secrets map[string][]byte) *search {
	forms := formsOf(secrets)
	return &search{t, forms, newPrefixIndex(forms), func(where, what string) { t.Errorf("%s: %s", where, what) }}
}

// at fails for each secret in content; and if content lacks what shows that it is the right one.
func (s *search) at(where string, content, witness []byte) {
	s.t.Helper()
	if len(content) == 0 || !bytes.Contains(content, witness) {
		s.t.Errorf("%s: there is nothing, or not what was expected", where)
	}
	for _, form := range s.index.find(content) {
		s.found(where, s.forms[form])
	}
}

// files looks through all files below a directory, and insists on some whose paths have these parts.
// What goes away meanwhile is passed over.
func (s *search) files(dir string, parts ...string) {
	s.t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if strings.HasPrefix(d.Name(), "core") {
			s.t.Errorf("%s may be a core file", path)
		}
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if len(content) > 0 {
			s.at(path, content, nil)
		}
		for _, part := range parts {
			seen[part] = seen[part] || strings.Contains(path, part)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	for _, part := range parts {
		if !seen[part] {
			s.t.Errorf("no file of %s is a %s", dir, part)
		}
	}
}

// planted insists that each secret is found in each of its forms, in a file below a directory into
// which they are put for that.
func (s *search) planted(dir string) {
	s.t.Helper()
	path, missing := filepath.Join(dir, "planted"), map[string]string{}
	var all []byte
	for form, what := range s.forms {
		all = append(append(all, 'x'), form...)
		missing[what] = form
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		s.t.Fatal(err)
	}
	looking := *s
	looking.found = func(where, what string) {
		if where == path {
			delete(missing, what)
		} else {
			s.found(where, what)
		}
	}
	looking.files(dir)
	for what := range missing {
		s.t.Errorf("%s is not found where it is planted", what)
	}
	if err := os.Remove(path); err != nil {
		s.t.Error(err)
	}
}
