package server

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/store"
)

// TestKeysOverTheWire reads keys, and gives them aliases and tags, as an officer who may do so
// with some of them.
func TestKeysOverTheWire(t *testing.T) {
	f := newFront(t).withOfficers()
	f.config.Officers.Development = true // no officer has brought these keys in
	for _, name := range []string{"may.a", "may.b", "may.c", "other.key"} {
		f.put(name, "P0")
	}
	f.put("may.a", "P0", func(r *store.KeyRecord, h *hsm.Header) { r.Version, h.Version = 2, 2 })
	f.start()
	c, ctx := keydv1.NewKeyServiceClient(f.as("officer-1")), t.Context()
	failed := func(what, want string, err error) {
		t.Helper()
		if reason(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}

	if k, err := c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "may.a"}); err != nil || k.Version != 2 || k.Usage != "P0" || k.State != keydv1.Key_ENABLED || !slices.Equal(k.Formats, []string{"ISO_FORMAT_0"}) {
		t.Errorf("the current version: %v, %v", k, err)
	}
	if r := f.lastRecord(1); r.Method != "KeyService/GetKey" || r.Decision != audit.Allowed || len(r.Keys) != 1 || r.Keys[0].Name != "may.a" {
		t.Errorf("recorded: %+v", r)
	}
	if k, err := c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "may.a?version=1"}); err != nil || k.Version != 1 {
		t.Errorf("another version: %v, %v", k, err)
	}
	versions, err := c.ListKeyVersions(ctx, &keydv1.ListKeyVersionsRequest{KeyId: "may.a"})
	if err != nil || len(versions.Keys) != 2 || versions.Keys[0].Version != 1 || versions.Keys[1].Version != 2 {
		t.Errorf("versions: %v, %v", versions, err)
	}
	_, err = c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "may.not.be.there"})
	failed("a key that is not there", "KEY_NOT_FOUND", err)
	_, err = c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "other.key"})
	failed("another's key", "POLICY_DENIED", err)
	_, err = c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "other.not.there"})
	failed("another's key that is not there", "POLICY_DENIED", err)
	_, err = c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "?"})
	failed("no reference", "REQUEST_INVALID", err)
	_, err = keydv1.NewKeyServiceClient(f.as("switch")).GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "may.a"})
	failed("a switch", "POLICY_DENIED", err)

	var names []string
	for token := ""; ; {
		page, err := c.ListKeys(ctx, &keydv1.ListKeysRequest{PageSize: 2, PageToken: token, NamePrefix: "may."})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			names = append(names, k.KeyId)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if !slices.Equal(names, []string{"may.a", "may.b", "may.c"}) {
		t.Errorf("listed: %q", names)
	}
	for what, r := range map[string]*keydv1.ListKeysRequest{
		"a page too large": {PageSize: 1001}, "a negative page": {PageSize: -1}, "a token of the caller's": {PageToken: "\x00"}, "no state": {State: 99},
	} {
		_, err := c.ListKeys(ctx, r)
		failed(what, "REQUEST_INVALID", err)
	}

	if _, err := c.CreateAlias(ctx, &keydv1.CreateAliasRequest{AliasName: "may.alias", KeyId: "may.a"}); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateAlias(ctx, &keydv1.CreateAliasRequest{AliasName: "may.alias", KeyId: "may.b"})
	failed("an alias again", "CONFLICT", err)
	_, err = c.CreateAlias(ctx, &keydv1.CreateAliasRequest{AliasName: "may.other", KeyId: "other.key"})
	failed("an alias of another's key", "POLICY_DENIED", err)
	_, err = c.UpdateAlias(ctx, &keydv1.UpdateAliasRequest{AliasName: "may.alias", KeyId: "may.b"})
	failed("moved from nowhere", "REQUEST_INVALID", err)
	if _, err := c.UpdateAlias(ctx, &keydv1.UpdateAliasRequest{AliasName: "may.alias", KeyId: "may.b", ExpectedKeyId: "may.a"}); err != nil {
		t.Error(err)
	}
	if a, err := c.GetAlias(ctx, &keydv1.GetAliasRequest{AliasName: "may.alias"}); err != nil || a.KeyId != "may.b" {
		t.Errorf("%v, %v", a, err)
	}
	if k, err := c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "may.alias"}); err != nil || k.KeyId != "may.b" || !slices.Equal(k.Aliases, []string{"may.alias"}) {
		t.Errorf("by its alias: %v, %v", k, err)
	}
	for what, r := range map[string]*keydv1.ListAliasesRequest{"all": {}, "of the key": {AliasOf: "may.b"}} {
		if l, err := c.ListAliases(ctx, r); err != nil || len(l.Aliases) != 1 || l.Aliases[0].AliasName != "may.alias" || l.Aliases[0].KeyId != "may.b" {
			t.Errorf("%s: %v, %v", what, l, err)
		}
	}
	if _, err := c.DeleteAlias(ctx, &keydv1.DeleteAliasRequest{AliasName: "may.alias", ExpectedKeyId: "may.b"}); err != nil {
		t.Error(err)
	}
	_, err = c.GetAlias(ctx, &keydv1.GetAliasRequest{AliasName: "may.alias"})
	failed("an alias that is gone", "KEY_NOT_FOUND", err)

	tags := map[string]string{"owner": "acquirer", "rotate": "2027"}
	if _, err := c.TagResource(ctx, &keydv1.TagResourceRequest{KeyId: "may.c", Tags: tags}); err != nil {
		t.Fatal(err)
	}
	if l, err := c.ListTagsForResource(ctx, &keydv1.ListTagsForResourceRequest{KeyId: "may.c"}); err != nil || !maps.Equal(l.Tags, tags) {
		t.Errorf("%v, %v", l, err)
	}
	if l, err := c.ListKeys(ctx, &keydv1.ListKeysRequest{TagKey: "owner", TagValue: "acquirer"}); err != nil || len(l.Keys) != 1 || l.Keys[0].KeyId != "may.c" {
		t.Errorf("by a tag: %v, %v", l, err)
	}
	if _, err := c.UntagResource(ctx, &keydv1.UntagResourceRequest{KeyId: "may.c", TagKeys: []string{"owner"}}); err != nil {
		t.Error(err)
	}
	if k, err := c.GetKey(ctx, &keydv1.GetKeyRequest{KeyId: "may.c"}); err != nil || !maps.Equal(k.Tags, map[string]string{"rotate": "2027"}) {
		t.Errorf("%v, %v", k, err)
	}
	_, err = c.TagResource(ctx, &keydv1.TagResourceRequest{KeyId: "other.key", Tags: tags})
	failed("a tag of another's key", "POLICY_DENIED", err)
}

// TestCeremoniesOverTheWire lists ceremonies, page by page and by their state; only who asks for
// one gets its papers.
func TestCeremoniesOverTheWire(t *testing.T) {
	f := newFront(t).withOfficers()
	now := time.Now()
	ids := []string{"00000000000000000000000000000001", "00000000000000000000000000000002", "00000000000000000000000000000003"}
	f.putCeremony(ids[0], store.CeremonyOpen, now.Add(3*time.Hour))
	f.putCeremony(ids[1], store.CeremonyAborted, now.Add(2*time.Hour))
	f.putCeremony(ids[2], store.CeremonyOpen, now.Add(-time.Hour)) // expired
	f.start()
	c := keydv1.NewCeremonyServiceClient(f.as("officer-1"))
	list := func(state keydv1.Ceremony_State, size int32) (found []string) {
		for token := ""; ; {
			page, err := c.ListCeremonies(t.Context(), &keydv1.ListCeremoniesRequest{State: state, PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.Ceremonies {
				found = append(found, m.CeremonyId)
				if m.Subject != "may.zone?version=1" || m.Kind != string(ceremony.Stop) || m.Opening != nil || m.Definition != nil {
					t.Errorf("listed: %v", m)
				}
			}
			if token = page.NextPageToken; token == "" {
				return found
			}
		}
	}
	for state, want := range map[keydv1.Ceremony_State][]string{
		keydv1.Ceremony_STATE_UNSPECIFIED: ids,
		keydv1.Ceremony_OPEN:              ids[:1],
		keydv1.Ceremony_ABORTED:           ids[1:2],
		keydv1.Ceremony_EXPIRED:           ids[2:],
		keydv1.Ceremony_COMPLETED:         nil,
	} {
		for _, size := range []int32{0, 1, 2} {
			if got := list(state, size); !slices.Equal(got, want) {
				t.Errorf("%s by %d: %q, want %q", state, size, got, want)
			}
		}
	}
	m, err := c.GetCeremony(context.Background(), &keydv1.GetCeremonyRequest{CeremonyId: ids[0]})
	if err != nil || m.State != keydv1.Ceremony_OPEN || m.ApprovalsMissing != 1 || len(m.Opening.GetDocument()) == 0 || len(m.Definition) == 0 {
		t.Errorf("%v, %v", m, err)
	}
	for what, r := range map[string]*keydv1.ListCeremoniesRequest{
		"a token of the caller's": {PageToken: "MTIz"}, "no base64": {PageToken: "!"}, "a page too large": {PageSize: 1001}, "no state": {State: 99},
	} {
		if _, err := c.ListCeremonies(t.Context(), r); reason(err) != "REQUEST_INVALID" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := keydv1.NewCeremonyServiceClient(f.as("auditor")).ListCeremonies(t.Context(), &keydv1.ListCeremoniesRequest{}); reason(err) != "POLICY_DENIED" {
		t.Errorf("no officer: %v", err)
	}
	// Without a module nothing is asked of it, and the papers stay as they are.
	if _, err := f.approve("officer-1", ids[0]); reason(err) != "MODULE_UNAVAILABLE" {
		t.Errorf("an approval without a module: %v", err)
	}
	if m, err := c.GetCeremony(t.Context(), &keydv1.GetCeremonyRequest{CeremonyId: ids[0]}); err != nil || m.ApprovalsMissing != 1 || len(m.Approvals) != 0 {
		t.Errorf("after an approval that nobody checked: %v, %v", m, err)
	}
}
