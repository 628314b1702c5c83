package server

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/policies"
	"keyd/terminals"
)

// What operators say about the keys that terminals get.

// aboutKeys asks the policy about keys, of which not every one needs to be there: whoever may not
// use them does not learn which are.
func (b terminalBinding) aboutKeys(ctx context.Context, method, detail string, references ...string) error {
	b.access.Entry(ctx).Detail = detail
	var asked []policies.Key
	for _, reference := range references {
		if !keys.ValidReference(reference) {
			return fault.New(fault.RequestInvalid, "key_id is the name of a key, NAME?version=N or an alias")
		}
		keyuse.Record(b.access.Entry(ctx), keys.NameIn(reference), nil)
		k := policies.Key{Name: keys.NameIn(reference)}
		if found, err := b.keys.Resolve(ctx, reference); err == nil {
			h := found.Header
			k = policies.Key{Name: found.Name, Version: found.Version, Usage: h.Usage, Algorithm: h.Algorithm, Mode: h.Mode, Direction: h.Direction, Peers: h.Peers}
		}
		asked = append(asked, k)
	}
	return b.access.Authorize(ctx, terminalService+method, asked)
}

// withName is a sentence with a name, where it can be one.
func withName(what, name string) string {
	if !terminals.ValidOwner(name) {
		return what
	}
	return what + " " + name
}

// SetKeyHost implements keyd.v1.TerminalService.
func (b terminalBinding) SetKeyHost(ctx context.Context, r *keydv1.SetKeyHostRequest) (*keydv1.KeyHost, error) {
	h := r.GetKeyHost()
	if err := b.aboutKeys(ctx, "SetKeyHost", withName("key host", h.GetName()), h.GetKeyId()); err != nil {
		return nil, err
	}
	set, err := b.distribution.SetHost(ctx, terminals.KeyHost{
		Name: h.GetName(), Key: h.GetKeyId(), Certificates: h.GetCertificates(), List: h.GetRevocationList(), Credential: h.GetCredentialToken(),
	})
	if err != nil {
		return nil, err
	}
	return hostMessage(set), nil
}

// ListKeyHosts implements keyd.v1.TerminalService.
func (b terminalBinding) ListKeyHosts(ctx context.Context, _ *keydv1.ListKeyHostsRequest) (*keydv1.ListKeyHostsResponse, error) {
	if err := b.access.about(ctx, terminalService+"ListKeyHosts", nil, nil); err != nil {
		return nil, err
	}
	list, err := b.distribution.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListKeyHostsResponse)
	for _, h := range list {
		answer.KeyHosts = append(answer.KeyHosts, hostMessage(h))
	}
	return answer, nil
}

func hostMessage(h *terminals.KeyHost) *keydv1.KeyHost {
	return &keydv1.KeyHost{
		Name: h.Name, KeyId: h.Key, Certificates: h.Certificates, RevocationList: h.List, CredentialToken: h.Credential, ChangedAt: timestamppb.New(h.Changed),
	}
}

// SetKeySet implements keyd.v1.TerminalService.
func (b terminalBinding) SetKeySet(ctx context.Context, r *keydv1.SetKeySetRequest) (*keydv1.KeySet, error) {
	m := r.GetKeySet()
	var references []string
	for _, k := range m.GetInitialKeys() {
		references = append(references, k.GetKeyId())
	}
	if len(references) > terminals.MaxInitial {
		return nil, fault.New(fault.RequestInvalid, fmt.Sprintf("key_set.initial_keys are at most %d", terminals.MaxInitial))
	}
	if len(references) == 0 {
		references = b.pairsOf(ctx, m)
	}
	if err := b.aboutKeys(ctx, "SetKeySet", withName("key set", m.GetName()), references...); err != nil {
		return nil, err
	}
	k, err := keySetOf(m)
	if err != nil {
		return nil, err
	}
	set, err := b.distribution.SetKeySet(ctx, *k)
	if err != nil {
		return nil, err
	}
	b.access.Entry(ctx).Detail += fmt.Sprintf(" version %d", set.Version)
	return keySetMessage(set), nil
}

// pairsOf returns what a key set without initial keys is about: the key pairs of its hosts. A host
// that is not there stands for itself, so that who may not ask does not learn of it.
func (b terminalBinding) pairsOf(ctx context.Context, m *keydv1.KeySet) (references []string) {
	for _, name := range []string{m.GetKeyAgreementHost(), m.GetTr34Host()} {
		if name == "" {
			continue
		}
		if h, err := b.distribution.Host(ctx, name); err == nil {
			name = h.Key
		}
		references = append(references, name)
	}
	return references
}

func keySetOf(m *keydv1.KeySet) (*terminals.KeySet, error) {
	k := &terminals.KeySet{
		Name: m.GetName(), AgreementHost: m.GetKeyAgreementHost(), TokenHost: m.GetTr34Host(), Profile: m.GetTr34Profile(),
		Master: terminals.MasterSpec{Algorithm: m.GetMasterKey().GetAlgorithm(), Length: m.GetMasterKey().GetLength(), Bare: m.GetMasterKey().GetBare()},
	}
	for _, asked := range m.GetMethods() {
		method, ok := methodsOf[asked]
		if !ok {
			return nil, fault.New(fault.RequestInvalid, "key_set.methods names methods of injection, each once")
		}
		k.Methods = append(k.Methods, method)
	}
	for _, i := range m.GetInitialKeys() {
		k.Initial = append(k.Initial, terminals.InitialSpec{Name: i.GetName(), Key: i.GetKeyId(), Prefix: i.GetPrefix(), First: i.GetFirst(), Last: i.GetLast(), Own: i.GetOwn()})
	}
	for _, s := range m.GetSessionKeys() {
		k.Session = append(k.Session, terminals.SessionSpec{Name: s.GetName(), Usage: s.GetUsage(), Algorithm: s.GetAlgorithm(), Length: s.GetLength(), Hours: s.GetHours()})
	}
	return k, nil
}

func keySetMessage(k *terminals.KeySet) *keydv1.KeySet {
	m := &keydv1.KeySet{
		Name: k.Name, Version: k.Version, KeyAgreementHost: k.AgreementHost, Tr34Host: k.TokenHost, Tr34Profile: k.Profile, CreatedAt: timestamppb.New(k.Created),
		MasterKey: &keydv1.KeySet_MasterKey{Algorithm: k.Master.Algorithm, Length: k.Master.Length, Bare: k.Master.Bare},
	}
	for _, method := range k.Methods {
		m.Methods = append(m.Methods, injectionMethod(method))
	}
	for _, i := range k.Initial {
		m.InitialKeys = append(m.InitialKeys, &keydv1.KeySet_InitialKey{Name: i.Name, KeyId: i.Key, Prefix: i.Prefix, First: i.First, Last: i.Last, Own: i.Own})
	}
	for _, s := range k.Session {
		m.SessionKeys = append(m.SessionKeys, &keydv1.KeySet_SessionKeySpec{Name: s.Name, Usage: s.Usage, Algorithm: s.Algorithm, Length: s.Length, Hours: s.Hours})
	}
	return m
}

// ListKeySets implements keyd.v1.TerminalService.
func (b terminalBinding) ListKeySets(ctx context.Context, _ *keydv1.ListKeySetsRequest) (*keydv1.ListKeySetsResponse, error) {
	if err := b.access.about(ctx, terminalService+"ListKeySets", nil, nil); err != nil {
		return nil, err
	}
	list, err := b.distribution.KeySets(ctx)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListKeySetsResponse)
	for _, k := range list {
		answer.KeySets = append(answer.KeySets, keySetMessage(k))
	}
	return answer, nil
}

// AssignKeySet implements keyd.v1.TerminalService.
func (b terminalBinding) AssignKeySet(ctx context.Context, r *keydv1.AssignKeySetRequest) (*keydv1.Terminal, error) {
	if err := b.about(ctx, "AssignKeySet", r.GetTerminalId()); err != nil {
		return nil, err
	}
	t, err := b.distribution.Assign(ctx, callOf(ctx).identity, r.GetTerminalId(), r.GetKeySet())
	if err == nil {
		b.note(ctx, withName("key set", t.KeySet))
	}
	return answered(t, err)
}
