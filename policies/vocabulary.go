package policies

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"keyd/dukpt"
)

// The vocabulary of conditions: what a "when" can speak of. docs/policies.md shows it to
// the authors of policies.
//
// It is CEL without what a policy has no use for: no regular expressions, no
// conversions (so that everything keeps its type), no arithmetic but joining texts, no
// messages.

// Names of types, variables and functions.
const (
	identityTypeName = "keyd.Identity"
	keyTypeName      = "keyd.Key"
	terminalTypeName = "keyd.Terminal"
	addressTypeName  = "keyd.Address"

	functionWithin = "within" // address.within("10.0.0.0/8")
	functionDuring = "during" // now.during("Mon-Fri 08:00-18:00", "Europe/Zurich")
)

var (
	identityType = types.NewObjectType(identityTypeName)
	keyType      = types.NewObjectType(keyTypeName)
	terminalType = types.NewObjectType(terminalTypeName)
	addressType  = types.NewOpaqueType(addressTypeName)
)

// value is what the types of this vocabulary have in common: they can be looked into,
// and nothing else.
type value struct {
	of    *types.Type
	inner any // *identityFacts, *Key, *Terminal, netip.Addr
}

var _ ref.Val = value{}

// ConvertToNative implements [ref.Val].
func (v value) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a %s is no %s", v.of.TypeName(), t)
}

// ConvertToType implements [ref.Val].
func (v value) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("a %s is no %s", v.of.TypeName(), t.TypeName())
}

// Equal implements [ref.Val].
func (v value) Equal(other ref.Val) ref.Val {
	o, ok := other.(value)
	return types.Bool(ok && v == o)
}

// Type implements [ref.Val].
func (v value) Type() ref.Type { return v.of }

// Value implements [ref.Val].
func (v value) Value() any { return v.inner }

// identityFacts is the caller's SPIFFE ID in parts, or a terminal's identity.
type identityFacts struct {
	id, trustDomain, last string
	path                  []string
	terminal              string
}

func factsOf(id string) *identityFacts {
	f := &identityFacts{id: id}
	if terminal, ok := terminalOf(id); ok { // which has no parts of a SPIFFE ID
		f.terminal = terminal
		return f
	}
	rest := strings.TrimPrefix(id, "spiffe://")
	domain, path, _ := strings.Cut(rest, "/")
	f.trustDomain = domain
	if path != "" {
		f.path = strings.Split(path, "/")
		f.last = f.path[len(f.path)-1]
	}
	return f
}

// fact is a field of one of the types.
type fact struct {
	name string
	of   *types.Type
	get  func(any) any
}

func (f fact) isSet(v any) bool { return !reflect.ValueOf(f.get(v)).IsZero() }

// facts are the fields of the types, in the order of the documentation.
var facts = map[string][]fact{
	identityTypeName: {
		{"id", types.StringType, func(v any) any { return v.(*identityFacts).id }},
		{"trust_domain", types.StringType, func(v any) any { return v.(*identityFacts).trustDomain }},
		{"path", types.NewListType(types.StringType), func(v any) any { return v.(*identityFacts).path }},
		{"last", types.StringType, func(v any) any { return v.(*identityFacts).last }},
		{"terminal", types.StringType, func(v any) any { return v.(*identityFacts).terminal }},
	},
	keyTypeName: {
		{"name", types.StringType, func(v any) any { return v.(*Key).Name }},
		{"usage", types.StringType, func(v any) any { return v.(*Key).Usage }},
		{"algorithm", types.StringType, func(v any) any { return v.(*Key).Algorithm }},
		{"mode", types.StringType, func(v any) any { return v.(*Key).Mode }},
		{"version", types.IntType, func(v any) any { return int64(v.(*Key).Version) }},
		{"direction", types.StringType, func(v any) any { return v.(*Key).Direction }},
		{"peers", types.NewListType(types.StringType), func(v any) any { return v.(*Key).Peers }},
		{"ksn", types.StringType, func(v any) any { return v.(*Key).KSN }},
		{"initial_key_id", types.StringType, func(v any) any { return v.(*Key).initialKeyID() }},
	},
	terminalTypeName: {
		{"id", types.StringType, func(v any) any { return v.(*Terminal).ID }},
		{"owner", types.StringType, func(v any) any { return v.(*Terminal).Owner }},
		{"model", types.StringType, func(v any) any { return v.(*Terminal).Model }},
	},
}

// keyFact returns the field of a key with that name, which is one.
func keyFact(name string) fact {
	list := facts[keyTypeName]
	return list[slices.IndexFunc(list, func(f fact) bool { return f.name == name })]
}

// initialKeyID returns the initial key ID in 16 upper-case hex digits, or nothing for a
// key without a key serial number.
func (k *Key) initialKeyID() string {
	b, err := hex.DecodeString(k.KSN)
	if err != nil {
		return ""
	}
	ksn, err := dukpt.ParseKSN(b)
	if err != nil {
		return ""
	}
	id := ksn.InitialKeyID()
	return strings.ToUpper(hex.EncodeToString(id[:]))
}

// provider tells CEL of the types. It knows no other ones, and no value of one can be
// made: see condition.inspect.
type provider struct{ *types.Registry }

// FindStructType implements [types.Provider].
func (provider) FindStructType(name string) (*types.Type, bool) {
	switch name {
	case identityTypeName:
		return types.NewTypeTypeWithParam(identityType), true
	case keyTypeName:
		return types.NewTypeTypeWithParam(keyType), true
	case terminalTypeName:
		return types.NewTypeTypeWithParam(terminalType), true
	}
	return nil, false
}

// FindStructFieldNames implements [types.Provider].
func (provider) FindStructFieldNames(name string) ([]string, bool) {
	list, ok := facts[name]
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.name
	}
	return names, ok
}

// FindStructFieldType implements [types.Provider].
func (provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	for _, f := range facts[name] {
		if f.name == field {
			return &types.FieldType{
				Type:    f.of,
				IsSet:   f.isSet,
				GetFrom: func(v any) (any, error) { return f.get(v), nil },
			}, true
		}
	}
	return nil, false
}

// NewValue implements [types.Provider].
func (provider) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("a %s cannot be made", name)
}

// standardFunctions are what is taken from CEL's standard library.
var standardFunctions = []string{
	operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional, operators.NotStrictlyFalse,
	operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
	operators.In, operators.OldIn, operators.Index, operators.Add,
	overloads.StartsWith, overloads.EndsWith, overloads.Contains, overloads.Size, overloads.TypeConvertTimestamp,
}

// newEnvironment returns the environment in which conditions are checked.
func newEnvironment() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	subset := new(env.LibrarySubset)
	for _, name := range standardFunctions {
		f := &env.Function{Name: name}
		if name == overloads.TypeConvertTimestamp {
			f.Overloads = []*env.Overload{{ID: overloads.StringToTimestamp}}
		}
		subset.AddIncludedFunctions(f)
	}
	return cel.NewCustomEnv(
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(provider{registry}),
		cel.StdLib(cel.StdLibSubset(subset)),
		cel.Variable("identity", identityType),
		cel.Variable("method", types.StringType),
		cel.Variable("keys", types.NewListType(keyType)),
		cel.Variable("terminal", terminalType),
		cel.Variable("address", addressType),
		cel.Variable("now", types.TimestampType),
		cel.Function(functionWithin, cel.MemberOverload("address_within_network",
			[]*cel.Type{addressType, types.StringType}, types.BoolType, cel.BinaryBinding(within))),
		cel.Function(functionDuring, cel.MemberOverload("timestamp_during_hours",
			[]*cel.Type{types.TimestampType, types.StringType, types.StringType}, types.BoolType, cel.FunctionBinding(during))),
		cel.EnableMacroCallTracking(), // so that a part of an expression can be written again
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxNesting),
		cel.ASTValidators(
			cel.ValidateTimestampLiterals(),
			cel.ValidateHomogeneousAggregateLiterals(),
			cel.ValidateComprehensionNestingLimit(maxLoops),
		),
	)
}

func within(address, network ref.Val) ref.Val {
	a, ok := address.(value)
	text, isText := network.(types.String)
	if !ok || !isText {
		return types.MaybeNoSuchOverloadErr(address)
	}
	prefix, err := parseNetwork(string(text))
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(prefix.Contains(a.inner.(netip.Addr)))
}

// parseNetwork reads a network in CIDR notation. Bits behind the mask would be a
// mistake: "10.1.2.3/8".
func parseNetwork(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return prefix, fmt.Errorf("%q is no network; write one in CIDR notation, such as \"10.1.0.0/16\" or \"2001:db8::/32\"", text)
	case prefix != prefix.Masked():
		return prefix, fmt.Errorf("%q has bits behind its mask; write %q", text, prefix.Masked())
	case prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("%q is an IPv4 network in IPv6 form; clients with IPv4 addresses are seen with those", text)
	}
	return prefix, nil
}

func during(args ...ref.Val) ref.Val {
	t, ok := args[0].(types.Timestamp)
	text, isText := args[1].(types.String)
	zone, isZone := args[2].(types.String)
	if !ok || !isText || !isZone {
		return types.MaybeNoSuchOverloadErr(args[0])
	}
	h, err := parseHours(string(text), string(zone))
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(h.cover(t.Time))
}

// scene is a request as a condition sees it. It is made only when a rule has one.
type scene struct {
	request  Request
	identity ref.Val
	keys     ref.Val
}

func newScene(r Request) *scene { return &scene{request: r} }

// Why a condition cannot be evaluated: what it asks for is not known.
var (
	errNoAddress  = errors.New("the client's address is not known")
	errNoTime     = errors.New("the time is not known")
	errNoTerminal = errors.New("the request is about no terminal")
)

// Parent implements CEL's activation: there is none.
func (s *scene) Parent() cel.Activation { return nil }

// ResolveName implements CEL's activation.
func (s *scene) ResolveName(name string) (any, bool) {
	switch name {
	case "identity":
		if s.identity == nil {
			s.identity = value{identityType, factsOf(s.request.Identity)}
		}
		return s.identity, true
	case "method":
		return types.String(s.request.Method), true
	case "keys":
		if s.keys == nil {
			list := make([]ref.Val, len(s.request.Keys))
			for i := range s.request.Keys {
				list[i] = value{keyType, &s.request.Keys[i]}
			}
			s.keys = types.NewRefValList(types.DefaultTypeAdapter, list)
		}
		return s.keys, true
	case "terminal":
		if s.request.Terminal == nil {
			return types.WrapErr(errNoTerminal), true
		}
		return value{terminalType, s.request.Terminal}, true
	case "address":
		if !s.request.Address.IsValid() {
			return types.WrapErr(errNoAddress), true
		}
		return value{addressType, s.request.Address.Unmap().WithZone("")}, true
	case "now":
		if s.request.At.IsZero() {
			return types.WrapErr(errNoTime), true
		}
		return types.Timestamp{Time: s.request.At.UTC().Truncate(time.Microsecond)}, true
	}
	return nil, false
}
