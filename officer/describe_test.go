package officer

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/hsm"
)

// An officer approves what Describe shows: every field of a definition has to be in it. A
// field that is added to one of these types and not to Describe fails here.
func TestDescribeLeavesNothingOut(t *testing.T) {
	f := func() *ceremony.Definition {
		return &ceremony.Definition{
			Kind: ceremony.Load, Key: &ceremony.KeySpec{Usage: "B0", IBM3624: &hsm.IBM3624Rule{}}, Under: &ceremony.KeyRef{}, Target: &ceremony.KeyRef{},
			Export: &ceremony.BlockForm{}, Roster: &ceremony.Roster{Officers: []ceremony.Officer{{Identity: "spiffe://x"}}, Quorum: ceremony.Quorum{Usages: []ceremony.Rule{{}}}},
			MasterKeys: &ceremony.MasterSpec{}, Authority: &ceremony.Authority{},
		}
	}
	text := func(d *ceremony.Definition) string { return fmt.Sprint(Describe(d)) }
	plain := text(f())
	var walk func(path string, reach func(*ceremony.Definition) reflect.Value)
	walk = func(path string, reach func(*ceremony.Definition) reflect.Value) {
		v := reach(f())
		for v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		for i := range v.NumField() {
			name := path + "." + v.Type().Field(i).Name
			field := func(d *ceremony.Definition) reflect.Value {
				v := reach(d)
				for v.Kind() == reflect.Pointer {
					v = v.Elem()
				}
				return v.Field(i)
			}
			kind := v.Field(i).Type()
			if kind.Kind() == reflect.Pointer || kind.Kind() == reflect.Struct {
				walk(name, field)
				continue
			}
			if kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Struct && v.Field(i).Len() > 0 {
				walk(name, func(d *ceremony.Definition) reflect.Value { return field(d).Index(0) })
				continue
			}
			d := f()
			set(t, field(d))
			switch name {
			case "definition.ValidFor": // how long it may take is in the opening, which is shown beside it
			case "definition.Key.IBM3624.AllowUnboundPAN": // refused in a definition
			default:
				if text(d) == plain {
					t.Errorf("%s is not shown", name)
				}
			}
		}
	}
	walk("definition", func(d *ceremony.Definition) reflect.Value { return reflect.ValueOf(d) })
}

// set gives a field another value.
func set(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("Ω")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(7)
	case reflect.Slice:
		s := reflect.MakeSlice(v.Type(), 1, 1)
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range s.Index(0).NumField() {
				set(t, s.Index(0).Field(i))
			}
		} else {
			set(t, s.Index(0))
		}
		v.Set(s)
	default:
		t.Fatalf("a field of kind %s", v.Kind())
	}
}

// A definition may be somebody else's.
func TestDescribeIsFitForATerminal(t *testing.T) {
	d := &ceremony.Definition{Kind: ceremony.Create, Key: &ceremony.KeySpec{Name: "a\x1b[2Jb\nc\u202e"}}
	if text := fmt.Sprint(Describe(d)); strings.ContainsAny(text, "\x1b\n\u202e") {
		t.Errorf("%q", text)
	}
}
