package policies

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Error is a fault of a policy file.
type Error struct {
	Line    int    // counted from 1; 0 if the fault is the whole file's
	Problem string // what is wrong and what to do
}

// Error returns the fault with its line.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Problem)
}

// A policy needs mappings, lists, texts and integers, and blocks of text for conditions.
// Everything else that YAML has (anchors, aliases, merges, tags, several documents) only
// makes a file mean something else than it seems to, and is refused. So the syntax tree
// is read here instead of being decoded into Go values, which would convert types.

// node is a value of the file.
type node struct {
	ast  ast.Node
	line int
}

// field is a key of a mapping with its value.
type field struct {
	name    string
	keyLine int
	node
}

// fieldSet holds the fields of a mapping by name, and under "" the mapping's line.
type fieldSet map[string]field

// text is a text of a list.
type text struct {
	value string
	line  int
}

// maxDepth bounds nested flow brackets and the indentation: the file's own structure
// needs 4 levels. It keeps a hostile file from exhausting the parser's stack.
const maxDepth = 64

func parseYAML(b []byte) (_ node, err error) {
	if err := checkText(b); err != nil {
		return node{}, err
	}
	// The library is not trusted to survive every input.
	defer func() {
		if recover() != nil {
			err = &Error{Problem: "the file is not YAML that can be read; compare it with the shipped example"}
		}
	}()
	file, err := parser.ParseBytes(b, 0, parser.AllowDuplicateMapKey()) // duplicates are found by anyFields
	if err != nil {
		return node{}, syntaxError(err)
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			return node{}, &Error{Line: lineOf(doc.Body, 0), Problem: "a second document begins here; a policy is one document, remove the line ---"}
		}
		root = doc.Body
	}
	if root == nil {
		return node{}, &Error{Problem: "the file is empty; begin with version: 1"}
	}
	return node{root, lineOf(root, 1)}, nil
}

// checkText refuses what is too large, no text or too deeply nested.
func checkText(b []byte) error {
	if len(b) > MaxSize {
		return &Error{Problem: fmt.Sprintf("the file has more than %d bytes; use patterns for key names and fleets for identities", MaxSize)}
	}
	line, depth, indent := 1, 0, 0
	startOfLine := true
	for rest := b; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		switch {
		case r == utf8.RuneError && size == 1:
			return &Error{Line: line, Problem: "not UTF-8; save the file as UTF-8"}
		case r == '\r' && (len(rest) == 0 || rest[0] != '\n'):
			return &Error{Line: line, Problem: "a carriage return stands alone; end lines with a line feed"}
		case r == '\t':
			return &Error{Line: line, Problem: "a tab character; indent with spaces"}
		case r < ' ' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff:
			return &Error{Line: line, Problem: fmt.Sprintf("control character %U; remove it", r)}
		}
		switch r {
		case '\n':
			line, indent, startOfLine = line+1, 0, true
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		}
		// Spaces and the list markers "- ", "? " and ": " open levels at a line's start.
		if startOfLine && strings.ContainsRune(" -?:", r) {
			indent++
		} else {
			startOfLine = false
		}
		if depth > maxDepth || indent > 4*maxDepth {
			return &Error{Line: line, Problem: "nested too deeply for a policy"}
		}
	}
	if bytes.IndexByte(b, '%') == 0 || bytes.Contains(b, []byte("\n%")) {
		return &Error{Problem: "YAML directives (lines that begin with %) are not used in a policy; remove them"}
	}
	return nil
}

// syntaxError keeps line and message of the library's error and drops its excerpt.
func syntaxError(err error) error {
	var e yaml.Error
	if errors.As(err, &e) {
		out := &Error{Problem: "not valid YAML: " + e.GetMessage()}
		if t := e.GetToken(); t != nil && t.Position != nil {
			out.Line = t.Position.Line
		}
		return out
	}
	return &Error{Problem: "not valid YAML"}
}

// unquotedStar finds a value that begins with an unquoted *.
var unquotedStar = regexp.MustCompile(`[-:,\[][ ]*\*`)

// adviseQuotes adds what the likeliest mistake needs: an unquoted * is an alias for
// YAML, which does not always say so and may swallow what follows.
func adviseQuotes(err error, b []byte) error {
	var e *Error
	if !errors.As(err, &e) || e.Line == 0 {
		return err
	}
	lines := strings.Split(string(b), "\n")
	if e.Line > len(lines) || !unquotedStar.MatchString(lines[e.Line-1]) {
		return err
	}
	return &Error{Line: e.Line, Problem: e.Problem + `; a value that begins with * has to be in quotes, as in "*"`}
}

func (n node) fault(format string, args ...any) error {
	return &Error{Line: n.line, Problem: fmt.Sprintf(format, args...)}
}

func (f field) keyFault(format string, args ...any) error {
	return &Error{Line: f.keyLine, Problem: fmt.Sprintf(format, args...)}
}

func (t text) fault(format string, args ...any) error {
	return &Error{Line: t.line, Problem: fmt.Sprintf(format, args...)}
}

// anyFields returns the fields of a mapping in the order of the file.
func (n node) anyFields() ([]field, error) {
	var values []*ast.MappingValueNode
	switch m := n.ast.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		return nil, n.wrongType("a mapping (name: value)")
	}
	fields := make([]field, 0, len(values))
	seen := make(map[string]int, len(values))
	for _, v := range values {
		line := lineOf(v.Key, n.line)
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			return nil, &Error{Line: line, Problem: fmt.Sprintf("a key has to be a plain text, not %s", kind(v.Key))}
		}
		if first, ok := seen[key.Value]; ok {
			return nil, &Error{Line: line, Problem: fmt.Sprintf("%q is set on line %d already; remove one", key.Value, first)}
		}
		seen[key.Value] = line
		fields = append(fields, field{key.Value, line, node{v.Value, lineOf(v.Value, line)}})
	}
	return fields, nil
}

// fields returns the fields of a mapping that may have only the allowed ones.
func (n node) fields(allowed ...string) (fieldSet, error) {
	list, err := n.anyFields()
	if err != nil {
		return nil, err
	}
	set := fieldSet{"": {keyLine: n.line}}
	for _, f := range list {
		if !slices.Contains(allowed, f.name) {
			return nil, f.keyFault("unknown key %q; possible here: %s", f.name, strings.Join(allowed, ", "))
		}
		set[f.name] = f
	}
	return set, nil
}

// need returns a field that has to be there, or an error with the advice.
func (s fieldSet) need(name, advice string) (field, error) {
	f, ok := s[name]
	if !ok {
		return field{}, &Error{Line: s[""].keyLine, Problem: fmt.Sprintf("%q is missing; %s", name, advice)}
	}
	return f, nil
}

func (n node) list() ([]node, error) {
	s, ok := n.ast.(*ast.SequenceNode)
	if !ok {
		return nil, n.wrongType("a list ([] for an empty one)")
	}
	nodes := make([]node, len(s.Values))
	for i, v := range s.Values {
		nodes[i] = node{v, lineOf(v, n.line)}
	}
	return nodes, nil
}

func (n node) texts() ([]text, error) {
	entries, err := n.list()
	if err != nil {
		return nil, err
	}
	texts := make([]text, len(entries))
	for i, entry := range entries {
		s, err := entry.text()
		if err != nil {
			return nil, err
		}
		texts[i] = text{s, entry.line}
	}
	return texts, nil
}

func (n node) text() (string, error) {
	s, ok := n.ast.(*ast.StringNode)
	if !ok {
		return "", n.wrongType("a text (put it in quotes)")
	}
	return s.Value, nil
}

// isTrue reports whether it is the word true, without quotes.
func (n node) isTrue() bool {
	b, ok := n.ast.(*ast.BoolNode)
	return ok && b.Value
}

func (n node) boolean() (bool, error) {
	b, ok := n.ast.(*ast.BoolNode)
	if !ok {
		return false, n.wrongType("true or false")
	}
	return b.Value, nil
}

// expression returns a text and the line on which it begins. It may be a block that
// begins with |: line breaks and comments mean nothing in an expression, and a long one
// is unreadable on one line.
func (n node) expression() (string, int, error) {
	if l, ok := n.ast.(*ast.LiteralNode); ok && l.Value != nil && l.Start != nil && strings.HasPrefix(l.Start.Value, "|") {
		return l.Value.Value, n.line + 1, nil
	}
	text, err := n.text()
	return text, n.line, err
}

// integer returns the digits of an integer as they are written.
func (n node) integer() (string, error) {
	i, ok := n.ast.(*ast.IntegerNode)
	if !ok {
		return "", n.wrongType("an integer")
	}
	return i.Token.Value, nil
}

func (n node) wrongType(want string) error {
	return n.fault("%s is needed here, not %s", want, kind(n.ast))
}

// kind names a value's type in words of the file.
func kind(n ast.Node) string {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return "a text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	default:
		return "a YAML " + strings.ToLower(n.Type().String())
	}
}

func lineOf(n ast.Node, otherwise int) int {
	if n == nil {
		return otherwise
	}
	switch m := n.(type) {
	case *ast.MappingNode: // its own token is the colon of the first field or a bracket
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return lineOf(m.Values[0].Key, otherwise)
		}
	case *ast.MappingValueNode:
		return lineOf(m.Key, otherwise)
	}
	if t := n.GetToken(); t != nil && t.Position != nil && t.Position.Line > 0 {
		return t.Position.Line
	}
	return otherwise
}
