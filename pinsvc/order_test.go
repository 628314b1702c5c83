package pinsvc

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"keyd/audit"
	"keyd/fault"
	"keyd/policies"
	"keyd/store"
)

// TestOrderOfChecks makes two or more things wrong at once: the first in the order is
// the one that is told.
func TestOrderOfChecks(t *testing.T) {
	s := newService(t)
	for name, c := range map[string]struct {
		in, out string
		block   int
		want    fault.Reason
		detail  string
	}{
		"nothing wrong but that there is no module": {"may.zone", "may.zone", 8, fault.ModuleUnavailable, ""},
		"shape before policy":                       {"not.zone", "not.zone", 7, fault.RequestInvalid, "encrypted_pin_block has 8 bytes in ISO_FORMAT_0 to ISO_FORMAT_3"},
		"policy before missing key":                 {"not.there", "may.zone", 8, fault.PolicyDenied, ""},
		"policy before missing key, other side":     {"gone", "not.zone", 8, fault.PolicyDenied, ""},
		"policy before stopped key":                 {"not.stopped", "may.zone", 8, fault.PolicyDenied, ""},
		"policy before a seal":                      {"may.renamed", "not.zone", 8, fault.PolicyDenied, ""},
		"a usage that the policy does not name":     {"may.kek", "may.zone", 8, fault.PolicyDenied, ""},
		"missing key":                               {"gone", "may.zone", 8, fault.KeyNotFound, "incoming.key_id"},
		"missing key, other side":                   {"may.zone", "gone", 8, fault.KeyNotFound, "outgoing.key_id"},
		"both missing: the first is named":          {"gone", "may.gone", 8, fault.KeyNotFound, "incoming.key_id"},
		"missing before stopped":                    {"may.stopped", "gone", 8, fault.KeyNotFound, "outgoing.key_id"},
		"stopped":                                   {"may.stopped", "may.zone", 8, fault.KeyDisabled, "incoming.key_id"},
		"not valid yet":                             {"may.zone", "may.later", 8, fault.KeyDisabled, "outgoing.key_id"},
		"stopped before a seal":                     {"may.renamed", "may.stopped", 8, fault.KeyDisabled, "outgoing.key_id"},
		"a seal":                                    {"may.renamed", "may.zone", 8, fault.KeySealInvalid, ""},
	} {
		s.entry, s.asked = audit.Entry{}, nil
		_, err := s.Translate(context.Background(), TranslateRequest{
			Incoming: PINKey{KeyID: c.in, Format: 1}, Outgoing: PINKey{KeyID: c.out, Format: 1}, PAN: pan, Block: make([]byte, c.block),
		})
		if f := fault.Of(err); f.Reason != c.want || f.Detail() != c.detail {
			t.Errorf("%s: %v (%q); want %v (%q)", name, f.Reason, f.Detail(), c.want, c.detail)
		}
	}
}

// The policy decides about a key that cannot be read on its name alone.
func TestStoreFailureComesAfterPolicy(t *testing.T) {
	s := newService(t)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	r := translation()
	if _, err := s.Translate(context.Background(), r); fault.Of(err).Reason != fault.StoreUnavailable || !errors.Is(err, store.ErrClosed) {
		t.Errorf("%v", err)
	}
	r.Outgoing.KeyID = "not.zone"
	s.entry.Keys = nil
	if _, err := s.Translate(context.Background(), r); fault.Of(err).Reason != fault.PolicyDenied {
		t.Errorf("%v", err)
	}
}

func TestWhatThePolicyIsAsked(t *testing.T) {
	s := newService(t)
	if _, err := s.Translate(context.Background(), translation()); fault.Of(err).Reason != fault.ModuleUnavailable {
		t.Fatal(err)
	}
	v := verification()
	v.VerificationKey = "gone"
	s.entry.Keys = nil
	if _, err := s.Verify(context.Background(), v); fault.Of(err).Reason != fault.KeyNotFound {
		t.Fatal(err)
	}
	bdk := policies.Key{Name: "may.bdk", Usage: "B0", Algorithm: "T", Mode: "B", Version: 1, Direction: "both", KSN: "FFFF9876543210E00001"}
	zone := policies.Key{Name: "may.zone", Usage: "P0", Algorithm: "T", Mode: "B", Version: 1, Direction: "both"}
	want := []policies.Request{
		{Identity: s.identity, Method: "PinService/TranslatePinData", Keys: []policies.Key{bdk, zone}},
		{Identity: s.identity, Method: "PinService/VerifyPinData", Keys: []policies.Key{zone, {Name: "gone"}}},
	}
	if !reflect.DeepEqual(s.asked, want) {
		t.Errorf("%+v", s.asked)
	}
}

func TestWhatIsRecorded(t *testing.T) {
	bdk := audit.Key{Name: "may.bdk", Version: 1, Usage: "B0", KCV: "08D7B4", KSN: "FFFF9876543210E00001"}
	zone := audit.Key{Name: "may.zone", Version: 1, Usage: "P0", KCV: "08D7B4"}
	for name, c := range map[string]struct {
		change func(*TranslateRequest)
		keys   []audit.Key
		pan    string
	}{
		"whole":            {func(*TranslateRequest) {}, []audit.Key{bdk, zone}, "…1111"},
		"denied":           {func(r *TranslateRequest) { r.Outgoing.KeyID = "not.zone" }, []audit.Key{bdk, {Name: "not.zone", Version: 1, Usage: "P0", KCV: "08D7B4"}}, "…1111"},
		"missing":          {func(r *TranslateRequest) { r.Outgoing.KeyID = "gone" }, []audit.Key{bdk, {Name: "gone"}}, "…1111"},
		"odd header":       {func(r *TranslateRequest) { r.Outgoing.KeyID = "may.odd" }, []audit.Key{bdk, {Name: "may.odd", Version: 1, Usage: "P0"}}, "…1111"},
		"seal":             {func(r *TranslateRequest) { r.Outgoing.KeyID = "may.renamed" }, []audit.Key{bdk, {Name: "may.renamed"}}, "…1111"},
		"shape":            {func(r *TranslateRequest) { r.Block = nil }, []audit.Key{{Name: "may.bdk", KSN: bdk.KSN}, {Name: "may.zone"}}, "…1111"},
		"no name, bad KSN": {func(r *TranslateRequest) { r.Incoming.KeyID, r.Incoming.DUKPT.KSN = "a b", zeroCounter }, []audit.Key{{}, {Name: "may.zone"}}, "…1111"},
		"no PAN":           {func(r *TranslateRequest) { r.PAN = "" }, []audit.Key{{Name: "may.bdk", KSN: bdk.KSN}, {Name: "may.zone"}}, ""},
		"not a PAN":        {func(r *TranslateRequest) { r.PAN = "04111F" }, []audit.Key{{Name: "may.bdk", KSN: bdk.KSN}, {Name: "may.zone"}}, "…"},
	} {
		s := newService(t)
		r := translation()
		c.change(&r)
		if _, err := s.Translate(context.Background(), r); err == nil {
			t.Errorf("%s: an answer without a module", name)
		}
		if !reflect.DeepEqual(s.entry.Keys, c.keys) || s.entry.PAN.String() != c.pan || s.entry.Custody != "" {
			t.Errorf("%s: %+v", name, s.entry)
		}
	}
}

func TestCallerWhoHasGone(t *testing.T) {
	s := newService(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Translate(ctx, translation()); !errors.Is(err, context.Canceled) || len(s.asked) != 0 {
		t.Errorf("%v, asked %v", err, s.asked)
	}
}
