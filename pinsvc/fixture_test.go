package pinsvc

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyd/audit"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
	"keyd/policies"
	"keyd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The policy of these tests: switch may use keys whose names begin with "may." or are
// "gone", with the usages P0, B0 and V2.
const policyText = `version: 1
identities:
  - id: spiffe://test.example/switch
    roles: [switch]
roles:
  switch:
    - methods: ["PinService/*"]
      keys: ["may.*", "gone"]
      usages: [P0, B0, V2]
`

// caller asks the real policy for one identity and keeps what it was asked.
type caller struct {
	policy   *policies.Policy
	identity string
	entry    audit.Entry
	asked    []policies.Request
}

func (c *caller) Authorize(_ context.Context, action string, named []policies.Key) error {
	r := policies.Request{Identity: c.identity, Method: action, Keys: named}
	c.asked = append(c.asked, r)
	if !c.policy.Authorize(r).Allowed {
		return fault.New(fault.PolicyDenied, "")
	}
	return nil
}

func (c *caller) Demand(context.Context) policies.Demand { return policies.Demand{} }

func (c *caller) Entry(context.Context) *audit.Entry { return &c.entry }

// service is a Service over a real store, without modules: a request that the front
// has nothing against ends with MODULE_UNAVAILABLE.
type service struct {
	*Service
	*caller
	store *store.SQLite
}

func newService(t *testing.T) *service {
	t.Helper()
	policy, err := policies.Parse([]byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	soon := time.Now().Add(time.Hour).Unix()
	for _, r := range []store.KeyRecord{
		row(t, "may.bdk", "B0", nil), row(t, "may.zone", "P0", nil), row(t, "may.pvk", "V2", nil),
		row(t, "may.kek", "K0", nil), row(t, "not.zone", "P0", nil),
		row(t, "may.later", "P0", func(_ *store.KeyRecord, h *hsm.Header) { h.NotBefore = soon }),
		row(t, "may.stopped", "P0", func(r *store.KeyRecord, _ *hsm.Header) { r.State = store.Disabled }),
		row(t, "not.stopped", "P0", func(r *store.KeyRecord, _ *hsm.Header) { r.State = store.Disabled }),
		row(t, "may.renamed", "P0", func(_ *store.KeyRecord, h *hsm.Header) { h.Name = "may.zone" }),
		row(t, "may.odd", "P0", func(_ *store.KeyRecord, h *hsm.Header) { h.CheckValue = "4111111111111111" }),
	} {
		if err := s.Put(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	serials, err := ksn.Open(context.Background(), s, ksn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := serials.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &caller{policy: policy, identity: "spiffe://test.example/switch"}
	modules := hsm.NewClient(time.Second, slog.New(slog.DiscardHandler))
	return &service{New(keyuse.New(keys.New(s), serials, c), modules), c, s}
}

func row(t *testing.T, name, usage string, change func(*store.KeyRecord, *hsm.Header)) store.KeyRecord {
	t.Helper()
	r := store.KeyRecord{Name: name, Version: 1, State: store.Enabled, CreatedAt: time.Now()}
	h := &hsm.Header{Name: name, Version: 1, Generation: 1, Usage: usage, Algorithm: "T", Length: 16, Mode: "B", Exportability: "N",
		CheckValue: "08D7B4", Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth, Formats: []hsm.Format{0}}
	if change != nil {
		change(&r, h)
	}
	body, err := hsm.SealedBody(h, [][]byte{make([]byte, 24)})
	if err != nil {
		t.Fatal(err)
	}
	r.Sealed = append(body, make([]byte, hsm.MACSize)...)
	return r
}

const pan = "4111111111111111"

func translation() TranslateRequest {
	return TranslateRequest{
		Incoming: PINKey{KeyID: "may.bdk", Format: 1, DUKPT: &keyuse.DUKPT{KSN: []byte{0xff, 0xff, 0x98, 0x76, 0x54, 0x32, 0x10, 0xe0, 0, 1}}},
		Outgoing: PINKey{KeyID: "may.zone", Format: 1},
		PAN:      pan,
		Block:    []byte("\x1b\x9c\x18\x45\xeb\x99\x3a\x7a"),
	}
}

func verification() VerifyRequest {
	return VerifyRequest{
		Incoming:        PINKey{KeyID: "may.zone", Format: 1},
		VerificationKey: "may.pvk",
		PAN:             pan,
		Block:           []byte("\x1b\x9c\x18\x45\xeb\x99\x3a\x7a"),
		PINMethod:       PINMethod{VisaPVV: &VisaPVV{KeyIndex: 1, PVV: "3856"}},
	}
}

func change() ChangeRequest {
	return ChangeRequest{
		Incoming:        PINKey{KeyID: "may.zone", Format: 1},
		VerificationKey: "may.pvk",
		PAN:             pan,
		Current:         []byte("\x1b\x9c\x18\x45\xeb\x99\x3a\x7a"),
		New:             []byte("\x1b\x9c\x18\x45\xeb\x99\x3a\x7b"),
		PINMethod:       PINMethod{VisaPVV: &VisaPVV{KeyIndex: 1, PVV: "3856"}},
	}
}
