package policies

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "keyd/api/keyd/v1" // the contract
)

// contractMethods returns every method of every service of the contract that is asked
// for by itself. The items of a stream are requests of the method whose name it has
// without "Stream".
func contractMethods(t *testing.T) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	found := map[string]protoreflect.MethodDescriptor{}
	var streams []string
	protoregistry.GlobalFiles.RangeFilesByPackage("keyd.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := string(service.Name()) + "/" + string(m.Name())
				if m.IsStreamingClient() && m.IsStreamingServer() { // what is streamed one way only is one request
					streams = append(streams, name)
					continue
				}
				found[name] = m
			}
		}
		return true
	})
	for _, name := range streams {
		carried, ok := strings.CutSuffix(name, "Stream")
		if _, known := found[carried]; !ok || !known {
			t.Errorf("%s is a stream whose items are no requests of another method", name)
		}
	}
	return found
}

// TestEveryMethodHasARow: the table and the contract are about the same methods, and
// the table says of each what its messages say.
func TestEveryMethodHasARow(t *testing.T) {
	contract := contractMethods(t)
	if len(contract) < 14 {
		t.Errorf("only %d methods were found", len(contract))
	}
	for name, m := range contract {
		row, ok := LookupMethod(name)
		if !ok {
			t.Errorf("%s has no row: nobody could be allowed it", name)
			continue
		}
		if custody := m.Output().Fields().ByName("custody") != nil; custody != row.Custody {
			t.Errorf("%s: its answer has custody: %t, its row says %t", name, custody, row.Custody)
		}
		if keys := namesKeys(m.Input(), 0); keys != row.Keys {
			t.Errorf("%s: its request names keys: %t, its row says %t", name, keys, row.Keys)
		}
	}
	for _, row := range Methods {
		if contract[row.Name] == nil {
			t.Errorf("%s has a row and is not in the contract", row.Name)
		}
	}
}

// namesKeys reports whether a message has a field key_id, or one that ends so.
func namesKeys(m protoreflect.MessageDescriptor, depth int) bool {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Name() == "key_id" || strings.HasSuffix(string(f.Name()), "_key_id") {
			return true
		}
		if f.Message() != nil && depth < 4 && namesKeys(f.Message(), depth+1) {
			return true
		}
	}
	return false
}

// TestPolicyOfEveryMethod: for each method, a policy that allows exactly it to one
// identity with one key allows that and nothing that differs in one respect.
func TestPolicyOfEveryMethod(t *testing.T) {
	contract := contractMethods(t)
	for name := range contract {
		row, ok := LookupMethod(name)
		if !ok {
			continue // see above
		}
		for _, custody := range []Custody{AnyCustody, TokenCustody} {
			if custody != AnyCustody && !row.Custody {
				continue
			}
			text := fmt.Sprintf("version: 1\nidentities:\n  - {id: spiffe://bank.example/host, roles: [only]}\n  - {id: spiffe://bank.example/idle, roles: []}\nroles:\n  only:\n    - methods: [%q]\n", name)
			good := Request{Identity: "spiffe://bank.example/host", Method: name}
			if row.Keys {
				text += "      keys: [key.1]\n      usages: [D0]\n"
				good.Keys = []Key{{Name: "key.1", Usage: "D0"}}
			}
			if custody != AnyCustody {
				text += "      custody: token\n"
			}
			p := mustParse(t, []byte(text))
			if d := p.Authorize(good); !d.Allowed || d.Rule != "only[0]" || d.Demand.Custody != custody {
				t.Errorf("%s: %+v", name, d)
			}
			type variant struct {
				what   string
				change func(*Request)
			}
			variants := []variant{
				{"another identity", func(r *Request) { r.Identity = "spiffe://bank.example/other" }},
				{"one without a role", func(r *Request) { r.Identity = "spiffe://bank.example/idle" }},
				{"another trust domain", func(r *Request) { r.Identity = "spiffe://other.example/host" }},
				{"below the identity", func(r *Request) { r.Identity += "/host" }},
				{"no identity", func(r *Request) { r.Identity = "" }},
				{"no method", func(r *Request) { r.Method = "" }},
				{"the stream itself", func(r *Request) { r.Method += "Stream" }},
			}
			for other := range contract {
				if other != name {
					variants = append(variants, variant{other, func(r *Request) { r.Method = other }})
				}
			}
			if row.Keys {
				variants = append(variants,
					variant{"another key", func(r *Request) { r.Keys[0].Name = "key.2" }},
					variant{"another case", func(r *Request) { r.Keys[0].Name = "KEY.1" }},
					variant{"no name", func(r *Request) { r.Keys[0].Name = "" }},
					variant{"another usage", func(r *Request) { r.Keys[0].Usage = "P0" }},
					variant{"a second key", func(r *Request) { r.Keys = append(r.Keys, Key{Name: "key.2", Usage: "D0"}) }},
					variant{"no key", func(r *Request) { r.Keys = nil }},
				)
			} else {
				variants = append(variants, variant{"with a key", func(r *Request) { r.Keys = []Key{{Name: "key.1", Usage: "D0"}} }})
			}
			for _, v := range variants {
				r := good
				r.Keys = slices.Clone(good.Keys)
				v.change(&r)
				if d := p.Authorize(r); d.Allowed || d.Why == "" || d.Rule != "" || d.Demand != (Demand{}) {
					t.Errorf("%s, %s: %+v", name, v.what, d)
				}
			}
			for _, none := range []*Policy{nil, {}, mustParse(t, []byte("version: 1\nidentities: []\nroles: {}\n"))} {
				if d := none.Authorize(good); d.Allowed {
					t.Errorf("%s, without a policy: %+v", name, d)
				}
			}
		}
	}
}
