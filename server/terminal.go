package server

import (
	"context"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/keys"
	"keyd/policies"
	"keyd/store"
	"keyd/terminals"
)

// terminalBinding binds keyd.v1.TerminalService to package terminals.
type terminalBinding struct {
	keydv1.UnimplementedTerminalServiceServer
	access       gate
	steps        []grpc.UnaryServerInterceptor
	uploads      chan struct{} // of revocation lists
	inventory    *terminals.Inventory
	distribution *terminals.Distribution
	keys         *keys.Inventory
}

const terminalService = "TerminalService/"

// about records which terminal a request is about, and asks the policy by what the inventory
// has of it. A caller whom it denies does not learn whether there is such a terminal.
func (b terminalBinding) about(ctx context.Context, method, id string) error {
	known := &policies.Terminal{ID: id}
	t, missing := b.inventory.Terminal(ctx, id)
	if missing == nil {
		known.Owner, known.Model = t.Owner, t.Model
	}
	if err := b.authorize(ctx, method, known); err != nil {
		return err
	}
	return missing
}

func (b terminalBinding) authorize(ctx context.Context, method string, t *policies.Terminal) error {
	if terminals.ValidID(t.ID) {
		b.access.Entry(ctx).Detail = "terminal " + t.ID
	}
	return b.access.about(ctx, terminalService+method, nil, t)
}

// RegisterTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) RegisterTerminal(ctx context.Context, r *keydv1.RegisterTerminalRequest) (*keydv1.RegisterTerminalResponse, error) {
	if err := b.authorize(ctx, "RegisterTerminal", &policies.Terminal{ID: r.GetTerminalId(), Owner: r.GetOwner(), Model: r.GetModel()}); err != nil {
		return nil, err
	}
	t, unchanged, err := b.inventory.Register(ctx, callOf(ctx).identity, terminals.Registration{
		ID: r.GetTerminalId(), Owner: r.GetOwner(), Model: r.GetModel(), Serial: r.GetSerialNumber(), Site: r.GetSite(), Certificates: r.GetCertificates(),
	}, r.GetValidateOnly())
	if err != nil {
		return nil, err
	}
	switch {
	case r.GetValidateOnly():
		b.access.Entry(ctx).Detail += " was checked, not registered"
	case unchanged:
		b.access.Entry(ctx).Detail += " was registered already"
	default:
		b.access.Entry(ctx).Detail += " was registered"
	}
	return &keydv1.RegisterTerminalResponse{Terminal: terminalMessage(t, true), Unchanged: unchanged}, nil
}

// GetTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) GetTerminal(ctx context.Context, r *keydv1.GetTerminalRequest) (*keydv1.Terminal, error) {
	if err := b.about(ctx, "GetTerminal", r.GetTerminalId()); err != nil {
		return nil, err
	}
	return answered(b.inventory.Terminal(ctx, r.GetTerminalId()))
}

// ListTerminals implements keyd.v1.TerminalService.
func (b terminalBinding) ListTerminals(ctx context.Context, r *keydv1.ListTerminalsRequest) (*keydv1.ListTerminalsResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	if r.GetPageToken() != "" && !terminals.ValidID(r.GetPageToken()) {
		return nil, fault.New(fault.RequestInvalid, badToken)
	}
	state, ok := terminalStates[r.GetState()]
	if !ok {
		return nil, fault.New(fault.RequestInvalid, "state is none of a terminal")
	}
	if err := b.authorize(ctx, "ListTerminals", &policies.Terminal{Owner: r.GetOwner(), Model: r.GetModel()}); err != nil {
		return nil, err
	}
	list, err := b.inventory.List(ctx, store.TerminalFilter{Owner: r.GetOwner(), Model: r.GetModel(), State: state}, r.GetPageToken(), size)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListTerminalsResponse)
	for _, t := range list {
		answer.Terminals = append(answer.Terminals, terminalMessage(t, false))
	}
	if len(list) == size {
		answer.NextPageToken = list[size-1].ID
	}
	return answer, nil
}

// SuspendTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) SuspendTerminal(ctx context.Context, r *keydv1.ChangeTerminalRequest) (*keydv1.Terminal, error) {
	return b.change(ctx, "SuspendTerminal", r, b.inventory.Suspend)
}

// ResumeTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) ResumeTerminal(ctx context.Context, r *keydv1.ChangeTerminalRequest) (*keydv1.Terminal, error) {
	return b.change(ctx, "ResumeTerminal", r, b.inventory.Resume)
}

// RetireTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) RetireTerminal(ctx context.Context, r *keydv1.ChangeTerminalRequest) (*keydv1.Terminal, error) {
	return b.change(ctx, "RetireTerminal", r, b.inventory.Retire)
}

func (b terminalBinding) change(ctx context.Context, method string, r *keydv1.ChangeTerminalRequest, do func(ctx context.Context, actor, id, reason string) (*terminals.Terminal, error)) (*keydv1.Terminal, error) {
	if err := b.about(ctx, method, r.GetTerminalId()); err != nil {
		return nil, err
	}
	return answered(do(ctx, callOf(ctx).identity, r.GetTerminalId(), r.GetReason()))
}

// ReplaceTerminal implements keyd.v1.TerminalService.
func (b terminalBinding) ReplaceTerminal(ctx context.Context, r *keydv1.ReplaceTerminalRequest) (*keydv1.Terminal, error) {
	if err := b.about(ctx, "ReplaceTerminal", r.GetTerminalId()); err != nil {
		return nil, err
	}
	t, err := b.inventory.Replace(ctx, callOf(ctx).identity, r.GetTerminalId(), r.GetReplacedBy(), r.GetReason())
	if err == nil {
		b.access.Entry(ctx).Detail += " was replaced by " + t.ReplacedBy
	}
	return answered(t, err)
}

// RenewTerminalCertificate implements keyd.v1.TerminalService.
func (b terminalBinding) RenewTerminalCertificate(ctx context.Context, r *keydv1.RenewTerminalCertificateRequest) (*keydv1.Terminal, error) {
	if err := b.about(ctx, "RenewTerminalCertificate", r.GetTerminalId()); err != nil {
		return nil, err
	}
	return answered(b.inventory.Renew(ctx, callOf(ctx).identity, r.GetTerminalId(), r.GetCertificates()))
}

// ListTerminalEvents implements keyd.v1.TerminalService.
func (b terminalBinding) ListTerminalEvents(ctx context.Context, r *keydv1.ListTerminalEventsRequest) (*keydv1.ListTerminalEventsResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	var after uint64
	if token := r.GetPageToken(); token != "" {
		if after, err = strconv.ParseUint(token, 10, 32); err != nil || after == 0 {
			return nil, fault.New(fault.RequestInvalid, badToken)
		}
	}
	if err := b.about(ctx, "ListTerminalEvents", r.GetTerminalId()); err != nil {
		return nil, err
	}
	list, err := b.inventory.Events(ctx, r.GetTerminalId(), after, size)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListTerminalEventsResponse)
	for _, e := range list {
		answer.Events = append(answer.Events, &keydv1.TerminalEvent{Number: e.Number, Kind: e.Kind, Actor: e.Actor, Detail: e.Detail, At: timestamppb.New(e.At)})
	}
	if len(list) == size {
		answer.NextPageToken = strconv.FormatUint(list[size-1].Number, 10)
	}
	return answer, nil
}

// terminalStates are the states of the contract.
var terminalStates = map[keydv1.Terminal_State]terminals.State{
	keydv1.Terminal_STATE_UNSPECIFIED: "",
	keydv1.Terminal_REGISTERED:        store.TerminalRegistered,
	keydv1.Terminal_SUSPENDED:         store.TerminalSuspended,
	keydv1.Terminal_RETIRED:           store.TerminalRetired,
	keydv1.Terminal_REPLACED:          store.TerminalReplaced,
}

func answered(t *terminals.Terminal, err error) (*keydv1.Terminal, error) {
	if err != nil {
		return nil, err
	}
	return terminalMessage(t, true), nil
}

// terminalMessage leaves the certificates out of lists.
func terminalMessage(t *terminals.Terminal, whole bool) *keydv1.Terminal {
	m := &keydv1.Terminal{
		TerminalId: t.ID, Owner: t.Owner, Model: t.Model, SerialNumber: t.Serial, Site: t.Site, State: keydv1.Terminal_State(keydv1.Terminal_State_value[string(t.State)]),
		KeySet: t.KeySet, ReplacedBy: t.ReplacedBy, RegisteredAt: timestamppb.New(t.Registered), ChangedAt: timestamppb.New(t.Changed),
	}
	if c := t.Certificate; c != nil {
		m.Certificate = &keydv1.TerminalCertificate{
			CertificateSha256: c.SHA256[:], PublicKeySha256: c.PublicKey[:], Subject: c.Subject, NotBefore: timestamppb.New(c.NotBefore), NotAfter: timestamppb.New(c.NotAfter),
		}
		if whole {
			m.Certificate.Certificate, m.Certificate.Issuers = c.Chain[0], c.Chain[1:]
		}
	}
	return m
}
