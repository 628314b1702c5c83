package terminals

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/store"
)

func TestKeySets(t *testing.T) {
	w := newWorld(t)
	first, err := w.KeySets(t.Context())
	if err != nil || len(first) != 1 || first[0].Version != 1 || first[0].Session[0].Hours != 24 || first[0].Session[1].Hours != 8 {
		t.Fatalf("%+v, %v", first, err)
	}
	if again := w.set(shop()); again.Version != 1 {
		t.Errorf("the very same content made version %d", again.Version)
	}
	next := shop()
	next.Initial[0].Last = 1000
	if set := w.set(next); set.Version != 2 || set.Initial[0].Last != 1000 {
		t.Errorf("%+v", set)
	}
	for what, c := range map[string]struct {
		change func(*KeySet)
		want   fault.Reason
	}{
		"no name": {func(k *KeySet) { k.Name = "" }, fault.RequestInvalid}, "no method": {func(k *KeySet) { k.Methods = nil }, fault.RequestInvalid},
		"a method twice":     {func(k *KeySet) { k.Methods = []Method{OnePass, OnePass} }, fault.RequestInvalid},
		"an unknown method":  {func(k *KeySet) { k.Methods = []Method{"SMOKE"} }, fault.RequestInvalid},
		"no host":            {func(k *KeySet) { k.TokenHost = "" }, fault.RequestInvalid},
		"a host too many":    {func(k *KeySet) { k.Methods = []Method{KeyAgreement} }, fault.RequestInvalid},
		"no such host":       {func(k *KeySet) { k.TokenHost = "none" }, fault.KeySetNotFound},
		"hosts swapped":      {func(k *KeySet) { k.TokenHost, k.AgreementHost = k.AgreementHost, k.TokenHost }, fault.KeyUsageMismatch},
		"one host":           {func(k *KeySet) { k.AgreementHost = k.TokenHost }, fault.KeyUsageMismatch},
		"no such profile":    {func(k *KeySet) { k.Profile = "acme" }, fault.RequestInvalid},
		"bare by TR-34":      {func(k *KeySet) { k.Master.Bare = true }, fault.RequestInvalid},
		"master":             {func(k *KeySet) { k.Master.Length = 8 }, fault.RequestInvalid},
		"master's algorithm": {func(k *KeySet) { k.Master.Algorithm = "H" }, fault.RequestInvalid},
		"seven":              {func(k *KeySet) { k.Initial = make([]InitialSpec, 7) }, fault.RequestInvalid},
		"reserved":           {func(k *KeySet) { k.Initial[0].Name = "master" }, fault.RequestInvalid}, "reserved too": {func(k *KeySet) { k.Session[0].Name = "receipt" }, fault.RequestInvalid},
		"upper case":     {func(k *KeySet) { k.Initial[0].Name = "PIN" }, fault.RequestInvalid},
		"a name twice":   {func(k *KeySet) { k.Initial = append(k.Initial, k.Initial[0]) }, fault.RequestInvalid},
		"no such key":    {func(k *KeySet) { k.Initial[0].Key = "none" }, fault.KeyNotFound},
		"another usage":  {func(k *KeySet) { k.Initial[0].Key = "zone" }, fault.KeyUsageMismatch},
		"another prefix": {func(k *KeySet) { k.Initial[0].Key = "bdk.tdes" }, fault.RequestInvalid},
		"no prefix":      {func(k *KeySet) { k.Initial[0].Prefix = nil }, fault.RequestInvalid},
		"backwards":      {func(k *KeySet) { k.Initial[0].First = 100 }, fault.RequestInvalid},
		"own and range":  {func(k *KeySet) { k.Initial[0].Own = true }, fault.RequestInvalid},
		"beyond 19 bits": {func(k *KeySet) {
			k.Initial[0] = InitialSpec{Name: "pin", Key: "bdk.tdes", Prefix: []byte{1, 2, 3, 4, 5}, Last: 1 << 19}
		}, fault.RequestInvalid},
		"AES under TDES": {func(k *KeySet) {
			k.Master = MasterSpec{Algorithm: "T", Length: 24}
			k.Session = nil
		}, fault.RequestInvalid},
		"nine": {func(k *KeySet) { k.Session = make([]SessionSpec, 9) }, fault.RequestInvalid}, "usage": {func(k *KeySet) { k.Session[0].Usage = "K0" }, fault.RequestInvalid},
		"AES for M3": {func(k *KeySet) { k.Session[0].Usage = "M3" }, fault.RequestInvalid}, "hours": {func(k *KeySet) { k.Session[0].Hours = 169 }, fault.RequestInvalid},
		"stronger": {func(k *KeySet) { k.Session[0].Length = 32 }, fault.RequestInvalid}, "no length": {func(k *KeySet) { k.Session[0].Length = 0 }, fault.RequestInvalid},
	} {
		k := shop()
		c.change(&k)
		_, err := w.SetKeySet(t.Context(), k)
		want(t, what, c.want, err)
	}
	if l, err := w.KeySets(t.Context()); err != nil || len(l) != 1 || l[0].Version != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	id := w.terminal("t-1")
	_, err = w.Assign(t.Context(), actor, id, "none")
	want(t, "an unknown key set", fault.KeySetNotFound, err)
	_, err = w.Assign(t.Context(), actor, id, "a b")
	want(t, "no key set's name", fault.RequestInvalid, err)
	if got, err := w.Assign(t.Context(), actor, id, "shop"); err != nil || got.KeySet != "shop" || len(w.kinds(id)) != 2 {
		t.Errorf("the same again: %+v, %v", got, err)
	}
	if _, err := w.inventory.Retire(t.Context(), actor, id, ""); err != nil {
		t.Fatal(err)
	}
	_, err = w.Assign(t.Context(), actor, id, "")
	want(t, "a retired one", fault.TerminalState, err)
}

func TestKeyHostsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	good, err := w.Host(t.Context(), "host.rsa")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetHost(t.Context(), *good); err != nil {
		t.Errorf("as it was listed: %v", err)
	}
	other, err := w.Host(t.Context(), "host.ec")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*KeyHost)
		want   fault.Reason
	}{
		"no name": {func(h *KeyHost) { h.Name = "a:b" }, fault.RequestInvalid}, "no key": {func(h *KeyHost) { h.Key = "" }, fault.RequestInvalid},
		"no such key": {func(h *KeyHost) { h.Key = "none" }, fault.KeyNotFound}, "another usage": {func(h *KeyHost) { h.Key = "zone" }, fault.KeyUsageMismatch},
		"another pair": {func(h *KeyHost) { h.Key = "host.ec" }, fault.CertificateInvalid}, "no certificate": {func(h *KeyHost) { h.Certificates = nil }, fault.CertificateInvalid},
		"another's":         {func(h *KeyHost) { h.Certificates = other.Certificates }, fault.CertificateInvalid},
		"with a root":       {func(h *KeyHost) { h.Certificates = append(h.Certificates, w.root.certificate.Raw) }, fault.CertificateInvalid},
		"with a stranger":   {func(h *KeyHost) { h.Certificates = append(h.Certificates, other.Certificates[0]) }, fault.CertificateInvalid},
		"no list":           {func(h *KeyHost) { h.List = []byte{0x30} }, fault.CertificateInvalid},
		"a long list":       {func(h *KeyHost) { h.List = make([]byte, store.MaxHostList+1) }, fault.RequestInvalid},
		"another CT_KDH":    {func(h *KeyHost) { h.Credential = []byte{1} }, fault.RequestInvalid},
		"a terminal's key?": {func(h *KeyHost) { h.Key = "terminal:t-1:pin" }, fault.KeyNotFound},
	} {
		h := *good
		c.change(&h)
		_, err := w.SetHost(t.Context(), h)
		want(t, what, c.want, err)
	}
}

// FuzzKeySet: what is not refused comes back as it was, and everything in it is within its limits.
func FuzzKeySet(f *testing.F) {
	k := shop()
	seed, err := json.Marshal(&k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("shop", seed)
	f.Add("", []byte(`{"methods":["TR34_ONE_PASS"],"token_host":"h","master":{"algorithm":"T","length":24}}`))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		var k KeySet
		if json.Unmarshal(content, &k) != nil {
			return
		}
		k.Name, k.Version = name, 1
		if err := k.check(); err != nil {
			var refusal *fault.Error
			if !errors.As(err, &refusal) || refusal.Reason != fault.RequestInvalid || !strings.HasPrefix(refusal.Detail(), "key_set.") {
				t.Fatal(err)
			}
			return
		}
		encoded, err := ceremony.Encode(&k)
		if err != nil {
			t.Fatal(err)
		}
		if len(encoded) > store.MaxKeySet {
			return
		}
		again, err := keySet(t.Context(), store.KeySet{Name: k.Name, Version: 1, Content: encoded, CreatedAt: moment}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := ceremony.Encode(again); err != nil || string(b) != string(encoded) {
			t.Fatalf("%+v came back as %+v", k, again)
		}
	})
}
