package policies

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// Bounds of conditions. A policy is written by the operator, but a slip of the pen, or
// a file that somebody else has made, must not stop the front.
const (
	maxExpression = 1024   // characters of one condition
	maxConditions = 128    // of one file
	maxNesting    = 32     // of brackets and calls
	maxLoops      = 2      // of all(), exists() and so on, one inside the other
	maxCost       = 10_000 // CEL's units; the shipped examples take less than 200
	maxDenialText = 200    // bytes of an evaluation's error in a denial
)

// condition is the "when" of a rule.
type condition struct {
	text    string
	line    int // on which the expression begins
	program cel.Program
	fields  []string // of keys that the expression looks at, in the order of facts
}

// conditionError is a fault of an expression.
type conditionError struct {
	line    int // of the expression, from 1
	problem string
}

func (e *conditionError) Error() string { return e.problem }

// environment is made when the first policy has a condition.
var environment = sync.OnceValues(newEnvironment)

// newCondition checks an expression and makes it ready. The line is that of the file on
// which it begins. An error is a *conditionError.
func newCondition(text string, line int) (_ *condition, err error) {
	if n := len(text); n > maxExpression {
		return nil, &conditionError{1, fmt.Sprintf("the condition has %d bytes; at most %d are allowed", n, maxExpression)}
	}
	// The library is not trusted to survive every input.
	defer func() {
		if recover() != nil {
			err = &conditionError{1, "the condition cannot be read; compare it with docs/policies.md"}
		}
	}()
	e, err := environment()
	if err != nil {
		return nil, &conditionError{1, "conditions cannot be used: " + err.Error()}
	}
	checked, issues := e.Compile(text)
	if issues.Err() != nil {
		return nil, firstIssue(issues)
	}
	if checked.OutputType() != types.BoolType {
		return nil, &conditionError{1, fmt.Sprintf("the condition is a %s; it has to be true or false", checked.OutputType())}
	}
	c := &condition{text: text, line: line}
	if err := c.inspect(checked.NativeRep()); err != nil {
		return nil, err
	}
	cost, err := e.EstimateCost(checked, sizes{})
	if err != nil || cost.Max > maxCost {
		return nil, &conditionError{1, fmt.Sprintf("the condition may take %d steps; at most %d are allowed", cost.Max, maxCost)}
	}
	c.program, err = e.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, &conditionError{1, "the condition cannot be used: " + oneLine(err.Error())}
	}
	return c, nil
}

// holds evaluates the condition. An error is as good as false, and says why to the
// operator.
func (c *condition) holds(s *scene) (bool, error) {
	out, _, err := c.program.Eval(s)
	if err != nil {
		return false, evaluationError(err)
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the condition gave a %T", out)
	}
	return bool(b), nil
}

// parts returns the conditions that && joins at the top of this one, in their order, or
// none if it does not join any. Their lines are those of the file. It is for
// explanations, where it may take its time.
func (c *condition) parts() []*condition {
	e, err := environment()
	if err != nil {
		return nil
	}
	parsed, issues := e.Parse(c.text)
	if issues.Err() != nil {
		return nil
	}
	tree := parsed.NativeRep()
	var parts []*condition
	for _, expression := range conjuncts(tree.Expr()) {
		text, err := parser.Unparse(expression, tree.SourceInfo(), parser.WrapOnColumn(2*maxExpression))
		if err != nil {
			return nil
		}
		first := firstLine(expression, tree.SourceInfo())
		part, err := newCondition(text, c.line+first-1)
		if err != nil {
			return nil
		}
		parts = append(parts, part)
	}
	if len(parts) < 2 {
		return nil
	}
	return parts
}

func conjuncts(e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return []ast.Expr{e}
	}
	var all []ast.Expr
	for _, arg := range e.AsCall().Args() {
		all = append(all, conjuncts(arg)...)
	}
	return all
}

// firstLine returns the line of an expression on which its first token stands.
func firstLine(e ast.Expr, info *ast.SourceInfo) int {
	first := math.MaxInt
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if line := info.GetStartLocation(e.ID()).Line(); line > 0 {
			first = min(first, line)
		}
	}))
	if first == math.MaxInt {
		return 1
	}
	return first
}

// evaluationError keeps an error short and on one line: it may quote what the caller
// sent.
func evaluationError(err error) error {
	for _, known := range []error{errNoAddress, errNoTime, errNoTerminal} {
		if errors.Is(err, known) || strings.Contains(err.Error(), known.Error()) {
			return known
		}
	}
	text := fmt.Sprintf("%+q", oneLine(err.Error()))
	text = text[1 : len(text)-1]
	if len(text) > maxDenialText {
		text = text[:maxDenialText] + "..."
	}
	return errors.New(text)
}

// firstIssue keeps line, column and message of the first complaint, and drops the
// excerpt.
func firstIssue(issues *cel.Issues) error {
	all := issues.Errors()
	if len(all) == 0 {
		return &conditionError{1, "the condition cannot be read: " + oneLine(issues.Err().Error())}
	}
	first := all[0]
	line, column := first.Location.Line(), first.Location.Column()+1
	if line < 1 {
		line, column = 1, 1
	}
	return &conditionError{line, fmt.Sprintf("the condition is wrong at its column %d: %s", column, oneLine(first.Message))}
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 512 {
		s = s[:512] + "..."
	}
	return s
}

// inspect checks what types alone do not: networks, hours and time zones are written
// out, so that they are known to be right before a request depends on them. It notes
// which fields of keys the expression looks at.
func (c *condition) inspect(a *ast.AST) error {
	looked := make(map[string]bool)
	var fault error
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.StructKind:
			if fault == nil {
				fault = &conditionError{1, fmt.Sprintf("a %s cannot be made, only looked at", e.AsStruct().TypeName())}
			}
		case ast.SelectKind:
			if a.GetType(e.AsSelect().Operand().ID()).IsExactType(keyType) {
				looked[e.AsSelect().FieldName()] = true
			}
		case ast.CallKind:
			if err := checkCall(e.AsCall()); err != nil && fault == nil {
				at := a.SourceInfo().GetStartLocation(e.ID())
				fault = &conditionError{max(at.Line(), 1), err.Error()}
			}
		}
	}))
	for _, f := range facts[keyTypeName] {
		if looked[f.name] {
			c.fields = append(c.fields, f.name)
		}
	}
	return fault
}

func checkCall(call ast.CallExpr) error {
	switch call.FunctionName() {
	case functionWithin:
		texts, err := literals(call, "the network")
		if err != nil {
			return err
		}
		_, err = parseNetwork(texts[0])
		return err
	case functionDuring:
		texts, err := literals(call, "hours and time zone")
		if err != nil {
			return err
		}
		_, err = parseHours(texts[0], texts[1])
		return err
	case operators.Equals, operators.NotEquals, operators.In:
		return checkCodes(call)
	}
	return nil
}

// literals returns the arguments of a call, which have to be texts as they stand.
func literals(call ast.CallExpr, what string) ([]string, error) {
	texts := make([]string, len(call.Args()))
	for i, arg := range call.Args() {
		if arg.Kind() == ast.LiteralKind {
			if text, ok := arg.AsLiteral().(types.String); ok {
				texts[i] = string(text)
				continue
			}
		}
		return nil, fmt.Errorf("%s of %s() has to be written out in quotes", what, call.FunctionName())
	}
	return texts, nil
}

// checkCodes refuses to compare the usage of a key with what is no usage: the
// comparison would never hold, or always.
func checkCodes(call ast.CallExpr) error {
	args := call.Args()
	for i, arg := range args {
		if arg.Kind() != ast.SelectKind || arg.AsSelect().FieldName() != "usage" {
			continue
		}
		other := []ast.Expr{args[1-i]}
		if other[0].Kind() == ast.ListKind {
			other = other[0].AsList().Elements()
		}
		for _, o := range other {
			if o.Kind() != ast.LiteralKind {
				continue
			}
			if code, ok := o.AsLiteral().(types.String); ok && code != "" && !KnownUsage(string(code)) {
				return fmt.Errorf("%q is no key usage of ANSI X9.143; write two characters such as P0, B0, V1, V2", string(code))
			}
		}
	}
	return nil
}

// sizes tells the estimate of a condition's cost how large things get. What is larger
// at the time of a request meets the same limit then, and is denied.
type sizes struct{}

// The largest sizes that are reckoned with.
const (
	expectedKeys     = 8
	expectedSegments = 16
)

// EstimateSize implements [cost.Estimator].
func (sizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	most := uint64(maxKeyName)
	switch strings.Join(element.Path(), ".") {
	case "keys":
		most = expectedKeys
	case "identity.path":
		most = expectedSegments
	case "identity.id":
		most = 2 * maxKeyName
	}
	return &cost.SizeEstimate{Max: most}
}

// EstimateCallCost implements [cost.Estimator].
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
