package code_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPure: the package imports what it needs to count and draw, and asks for no time.
func TestPure(t *testing.T) {
	allowed := []string{
		"bytes", "crypto", "crypto/ecdsa", "crypto/elliptic", "crypto/rand", "crypto/sha256", "encoding/base32", "encoding/binary", "errors", "fmt", "image", "image/color", "image/png",
		"math/big", "slices", "strconv", "strings", "time", "golang.org/x/crypto/cryptobyte", "golang.org/x/crypto/cryptobyte/asn1", "github.com/piglig/go-qr",
	}
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	files, clocks := 0, 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			if path, err := strconv.Unquote(i.Path.Value); err != nil || !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
				clocks++
				if !slices.Contains([]string{"Time", "Duration", "Minute", "Hour", "Unix"}, s.Sel.Name) {
					t.Errorf("%s uses time.%s", name, s.Sel.Name)
				}
			}
			return true
		})
	}
	if files < 8 || clocks < 5 {
		t.Errorf("%d files, %d uses of time were looked at", files, clocks)
	}
}
