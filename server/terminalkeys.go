package server

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/store"
	"keyd/terminals"
)

// What a terminal asks for, or somebody who carries its messages.

// aboutSelf is about for what is asked for a terminal.
func (b terminalBinding) aboutSelf(ctx context.Context, method, terminalID string) (string, error) {
	id, err := terminalFor(ctx, terminalID)
	if err != nil {
		return "", err
	}
	return id, b.about(ctx, method, id)
}

// note adds what was done to the audit entry.
func (b terminalBinding) note(ctx context.Context, what string) {
	b.access.Entry(ctx).Detail += ": " + what
}

// GetKeyHost implements keyd.v1.TerminalService.
func (b terminalBinding) GetKeyHost(ctx context.Context, r *keydv1.GetKeyHostRequest) (*keydv1.KeyHost, error) {
	id, err := b.aboutSelf(ctx, "GetKeyHost", r.GetTerminalId())
	if err != nil {
		return nil, err
	}
	m, ok := methodsOf[r.GetMethod()]
	if !ok {
		return nil, fault.New(fault.RequestInvalid, "method is none of injection")
	}
	h, err := b.distribution.HostOf(ctx, id, m)
	if err != nil {
		return nil, err
	}
	b.note(ctx, "key host "+h.Name)
	return hostMessage(h), nil
}

// InjectKeys implements keyd.v1.TerminalService.
func (b terminalBinding) InjectKeys(ctx context.Context, r *keydv1.InjectKeysRequest) (*keydv1.InjectKeysResponse, error) {
	id, err := b.aboutSelf(ctx, "InjectKeys", r.GetTerminalId())
	if err != nil {
		return nil, err
	}
	request := terminals.Request{Terminal: id, Own: r.GetInitialKeyIds(), Anew: r.GetAnew(), Legacy: b.access.legacy}
	switch asked := r.GetRequest().(type) {
	case *keydv1.InjectKeysRequest_KeyAgreement:
		request.Method, request.Message = terminals.KeyAgreement, asked.KeyAgreement
	case *keydv1.InjectKeysRequest_Tr34RandomToken:
		request.Method, request.Message = terminals.TwoPass, asked.Tr34RandomToken
	case *keydv1.InjectKeysRequest_Tr34OnePass:
		if !asked.Tr34OnePass {
			return nil, fault.New(fault.RequestInvalid, "tr34_one_pass is true, or another request is set")
		}
		request.Method = terminals.OnePass
	default:
		return nil, fault.New(fault.RequestInvalid, "request is one of key_agreement, tr34_random_token and tr34_one_pass")
	}
	a, err := b.distribution.Inject(ctx, callOf(ctx).identity, request)
	if err != nil {
		b.note(ctx, string(request.Method))
		return nil, err
	}
	b.note(ctx, a.Injection.Summary())
	answer := &keydv1.InjectKeysResponse{InjectionId: a.Injection.ID, Answer: a.Answer, KeyBlocks: a.KeyBlocks, ConfirmBy: timestamppb.New(a.Injection.ConfirmBy)}
	for _, k := range injectedKeys(a.Injection) {
		k.KeyCheckValue = "" // the terminal says it first
		answer.Keys = append(answer.Keys, k)
	}
	return answer, nil
}

// ConfirmKeys implements keyd.v1.TerminalService.
func (b terminalBinding) ConfirmKeys(ctx context.Context, r *keydv1.ConfirmKeysRequest) (*keydv1.Injection, error) {
	id, err := b.aboutSelf(ctx, "ConfirmKeys", r.GetTerminalId())
	if err != nil {
		return nil, err
	}
	i, err := b.distribution.Confirm(ctx, callOf(ctx).identity, id, r.GetInjectionId(), r.GetKeyCheckValues(), r.GetMac())
	if i != nil {
		b.note(ctx, i.Summary())
	}
	if err != nil {
		return nil, err
	}
	return injectionMessage(i, true), nil
}

// SignIn implements keyd.v1.TerminalService.
func (b terminalBinding) SignIn(ctx context.Context, r *keydv1.SignInRequest) (*keydv1.SignInResponse, error) {
	id, err := b.aboutSelf(ctx, "SignIn", r.GetTerminalId())
	if err != nil {
		return nil, err
	}
	made, err := b.distribution.SignIn(ctx, id, b.access.legacy)
	if err != nil {
		return nil, err
	}
	b.note(ctx, strconv.Itoa(len(made))+" session keys")
	answer := new(keydv1.SignInResponse)
	for _, k := range made {
		m := &keydv1.SessionKey{Name: k.Name, KeyId: k.Key, Usage: k.Usage, Algorithm: k.Algorithm, KeyCheckValue: k.CheckValue, NotAfter: timestamppb.New(k.NotAfter)}
		if k.KeyBlock != "" {
			m.Form = &keydv1.SessionKey_KeyBlock{KeyBlock: k.KeyBlock}
		} else {
			m.Form = &keydv1.SessionKey_Cryptogram{Cryptogram: k.Cryptogram}
		}
		answer.Keys = append(answer.Keys, m)
	}
	return answer, nil
}

// ListInjections implements keyd.v1.TerminalService.
func (b terminalBinding) ListInjections(ctx context.Context, r *keydv1.ListInjectionsRequest) (*keydv1.ListInjectionsResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	var before uint64
	if token := r.GetPageToken(); token != "" {
		if before, err = strconv.ParseUint(token, 10, 32); err != nil || before == 0 {
			return nil, fault.New(fault.RequestInvalid, badToken)
		}
	}
	if err := b.about(ctx, "ListInjections", r.GetTerminalId()); err != nil {
		return nil, err
	}
	list, err := b.distribution.Injections(ctx, r.GetTerminalId(), before, size)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListInjectionsResponse)
	for _, i := range list {
		answer.Injections = append(answer.Injections, injectionMessage(i, false))
	}
	if len(list) == size && list[size-1].Place() > 1 {
		answer.NextPageToken = strconv.FormatUint(list[size-1].Place(), 10)
	}
	return answer, nil
}

// GetInjection implements keyd.v1.TerminalService.
func (b terminalBinding) GetInjection(ctx context.Context, r *keydv1.GetInjectionRequest) (*keydv1.Injection, error) {
	if err := b.about(ctx, "GetInjection", r.GetTerminalId()); err != nil {
		return nil, err
	}
	i, err := b.distribution.Injection(ctx, r.GetTerminalId(), r.GetInjectionId())
	if err != nil {
		return nil, err
	}
	b.note(ctx, i.Summary())
	return injectionMessage(i, true), nil
}

// UnbindTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) UnbindTerminal(ctx context.Context, r *keydv1.UnbindTerminalRequest) (*keydv1.BindingToken, error) {
	return b.bind(ctx, "UnbindTerminal", terminals.Binding{Terminal: r.GetTerminalId(), Random: r.GetRandomToken(), Reason: r.GetReason()})
}

// RebindTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) RebindTerminal(ctx context.Context, r *keydv1.RebindTerminalRequest) (*keydv1.BindingToken, error) {
	to := r.GetCertificates()
	if to == nil {
		to = [][]byte{} // none is refused, and does not unbind
	}
	return b.bind(ctx, "RebindTerminal", terminals.Binding{Terminal: r.GetTerminalId(), Random: r.GetRandomToken(), NewHost: to, List: r.GetRevocationList(), Reason: r.GetReason()})
}

func (b terminalBinding) bind(ctx context.Context, method string, request terminals.Binding) (*keydv1.BindingToken, error) {
	if err := b.about(ctx, method, request.Terminal); err != nil {
		return nil, err
	}
	token, err := b.distribution.Bind(ctx, callOf(ctx).identity, request)
	if err != nil {
		return nil, err
	}
	b.note(ctx, "its keys have ended")
	return &keydv1.BindingToken{Token: token}, nil
}

// methodsOf are the methods of the contract.
var methodsOf = map[keydv1.InjectionMethod]terminals.Method{
	keydv1.InjectionMethod_KEY_AGREEMENT: terminals.KeyAgreement,
	keydv1.InjectionMethod_TR34_TWO_PASS: terminals.TwoPass,
	keydv1.InjectionMethod_TR34_ONE_PASS: terminals.OnePass,
}

func injectionMethod(m terminals.Method) keydv1.InjectionMethod {
	return keydv1.InjectionMethod(keydv1.InjectionMethod_value[string(m)])
}

// injectionMessage leaves record, receipt and statement out of lists.
func injectionMessage(i *terminals.Injection, whole bool) *keydv1.Injection {
	m := &keydv1.Injection{
		InjectionId: i.ID, TerminalId: i.Terminal, State: keydv1.Injection_State(keydv1.Injection_State_value[string(i.State)]), Method: injectionMethod(i.Method),
		KeySet: i.KeySet, KeySetVersion: i.KeySetVersion, Keys: injectedKeys(i), CreatedAt: timestamppb.New(i.Created), ConfirmBy: timestamppb.New(i.ConfirmBy),
	}
	if !i.Confirmed.IsZero() {
		m.ConfirmedAt = timestamppb.New(i.Confirmed)
	}
	if whole {
		m.Record, m.Receipt, m.Statement = i.Record, i.Receipt, i.Statement
	}
	return m
}

func injectedKeys(i *terminals.Injection) (list []*keydv1.InjectedKey) {
	for _, k := range i.Keys {
		list = append(list, &keydv1.InjectedKey{
			Name: k.Name, Usage: k.Usage, Algorithm: k.Algorithm, Length: k.Length, KeyId: k.BDK, Version: k.Version, KeySerialNumber: k.ID, KeyCheckValue: k.CheckValue,
		})
	}
	return list
}
