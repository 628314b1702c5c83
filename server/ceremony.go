package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/ceremony"
	"keyd/fault"
	"keyd/keys"
	"keyd/store"
)

// ceremonyBinding binds keyd.v1.CeremonyService to package keys.
type ceremonyBinding struct {
	keydv1.UnimplementedCeremonyServiceServer
	access   gate
	officers *keys.Ceremonies
}

const ceremonyService = "CeremonyService/"

// GetModule implements keyd.v1.CeremonyService.
func (b ceremonyBinding) GetModule(ctx context.Context, _ *keydv1.GetModuleRequest) (*keydv1.GetModuleResponse, error) {
	if err := b.access.Authorize(ctx, ceremonyService+"GetModule", nil); err != nil {
		return nil, err
	}
	identity, err := b.officers.Identity(ctx)
	if err != nil {
		return nil, err
	}
	version, digest := b.officers.Waiting()
	restoredVersion, restored := b.officers.Restored()
	if restored != "" {
		version, digest = restoredVersion, restored
	}
	return &keydv1.GetModuleResponse{Identity: signedMessage(identity), WaitingRegisterVersion: version, WaitingRegister: digest, Restored: restored != "", Node: b.officers.Node}, nil
}

// BeginCeremony implements keyd.v1.CeremonyService.
func (b ceremonyBinding) BeginCeremony(ctx context.Context, r *keydv1.BeginCeremonyRequest) (*keydv1.Ceremony, error) {
	return begin(ctx, b.access, b.officers, ceremonyService+"BeginCeremony", r.GetDefinition(), r.GetStatement())
}

// begin opens a ceremony of one of the kinds, of any kind if none is named.
func begin(ctx context.Context, access gate, officers *keys.Ceremonies, action string, definition []byte, statement *keydv1.SignedDocument, kinds ...ceremony.Kind) (*keydv1.Ceremony, error) {
	wish, err := signedDocument("statement", statement)
	if err != nil {
		return nil, err
	}
	d, err := ceremony.Decode[ceremony.Definition](definition, ceremony.MaxDocument)
	if err != nil {
		return nil, fault.New(fault.RequestInvalid, "definition is not in the one encoding of a definition")
	}
	entry := access.Entry(ctx)
	recordKey(entry, d)
	if err := access.Authorize(ctx, action, nil); err != nil {
		return nil, err
	}
	if len(kinds) > 0 && !slices.Contains(kinds, d.Kind) {
		return nil, fault.New(fault.DefinitionInvalid, "this method begins no ceremony of this kind")
	}
	entry.Detail = "begin " + string(d.Kind)
	cer, err := officers.Begin(ctx, callOf(ctx).identity, definition, wish)
	return ceremonyAnswer(entry, "begun", cer, err)
}

// recordKey puts the key that a definition is about into the audit entry.
func recordKey(entry *audit.Entry, d *ceremony.Definition) {
	if k := d.Subject(); k != nil && keys.ValidName(k.Name) {
		entry.Keys = append(entry.Keys, audit.Key{Name: k.Name, Version: k.Version})
	}
}

// ceremonyAnswer records what was done, and answers with the ceremony.
func ceremonyAnswer(entry *audit.Entry, what string, cer *keys.Ceremony, err error) (*keydv1.Ceremony, error) {
	if err != nil {
		return nil, err
	}
	if cer.State == store.CeremonyCompleted {
		what += " and carried out"
	}
	entry.Detail = fmt.Sprintf("%s: ceremony %s %s; signed by %s", cer.Kind, cer.ID[:8], what, strings.Join(cer.Officers(), ", "))
	return ceremonyMessage(cer), nil
}

// named records a ceremony that a request is about.
func named(entry *audit.Entry, action, id string) {
	if ceremony.ValidID(id) {
		entry.Detail = action + ": ceremony " + id[:8]
	}
}

// SubmitComponent implements keyd.v1.CeremonyService.
func (b ceremonyBinding) SubmitComponent(ctx context.Context, r *keydv1.SubmitComponentRequest) (*keydv1.Ceremony, error) {
	entry := b.access.Entry(ctx)
	named(entry, "submit", r.GetCeremonyId())
	statement, err := signedDocument("statement", r.GetStatement())
	if err != nil {
		return nil, err
	}
	if n := len(r.GetSealedComponent()); n == 0 || n > ceremony.MaxSealedComponent {
		return nil, fault.New(fault.RequestInvalid, fmt.Sprintf("sealed_component has 1 to %d bytes", ceremony.MaxSealedComponent))
	}
	if err := b.access.Authorize(ctx, ceremonyService+"SubmitComponent", nil); err != nil {
		return nil, err
	}
	cer, err := b.officers.Submit(ctx, callOf(ctx).identity, r.GetCeremonyId(), ceremony.Submission{Statement: statement, Sealed: r.GetSealedComponent()})
	return b.answer(entry, "got a component", cer, err)
}

// ApproveCeremony implements keyd.v1.CeremonyService.
func (b ceremonyBinding) ApproveCeremony(ctx context.Context, r *keydv1.ApproveCeremonyRequest) (*keydv1.Ceremony, error) {
	entry := b.access.Entry(ctx)
	named(entry, "approve", r.GetCeremonyId())
	statement, err := signedDocument("statement", r.GetStatement())
	if err != nil {
		return nil, err
	}
	if err := b.access.Authorize(ctx, ceremonyService+"ApproveCeremony", nil); err != nil {
		return nil, err
	}
	cer, err := b.officers.Approve(ctx, callOf(ctx).identity, r.GetCeremonyId(), statement)
	return b.answer(entry, "approved", cer, err)
}

// AbortCeremony implements keyd.v1.CeremonyService.
func (b ceremonyBinding) AbortCeremony(ctx context.Context, r *keydv1.AbortCeremonyRequest) (*keydv1.Ceremony, error) {
	entry := b.access.Entry(ctx)
	named(entry, "abort", r.GetCeremonyId())
	statement, err := signedDocument("statement", r.GetStatement())
	if err != nil {
		return nil, err
	}
	if err := b.access.Authorize(ctx, ceremonyService+"AbortCeremony", nil); err != nil {
		return nil, err
	}
	cer, err := b.officers.Abort(ctx, callOf(ctx).identity, r.GetCeremonyId(), statement)
	return b.answer(entry, "aborted", cer, err)
}

// answer is [ceremonyAnswer] of a ceremony that was there before.
func (b ceremonyBinding) answer(entry *audit.Entry, what string, cer *keys.Ceremony, err error) (*keydv1.Ceremony, error) {
	if err == nil {
		if d, problem := ceremony.Decode[ceremony.Definition](cer.Papers.Definition, ceremony.MaxDocument); problem == nil {
			recordKey(entry, d)
		}
	}
	return ceremonyAnswer(entry, what, cer, err)
}

// GetCeremony implements keyd.v1.CeremonyService.
func (b ceremonyBinding) GetCeremony(ctx context.Context, r *keydv1.GetCeremonyRequest) (*keydv1.Ceremony, error) {
	named(b.access.Entry(ctx), "get", r.GetCeremonyId())
	if err := b.access.Authorize(ctx, ceremonyService+"GetCeremony", nil); err != nil {
		return nil, err
	}
	cer, err := b.officers.Get(ctx, r.GetCeremonyId())
	if err != nil {
		return nil, err
	}
	return ceremonyMessage(cer), nil
}

// ListCeremonies implements keyd.v1.CeremonyService.
func (b ceremonyBinding) ListCeremonies(ctx context.Context, r *keydv1.ListCeremoniesRequest) (*keydv1.ListCeremoniesResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxCeremonyList)
	if err != nil {
		return nil, err
	}
	before, id, err := parseCeremonyToken(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	var state store.CeremonyState
	switch r.GetState() {
	case keydv1.Ceremony_STATE_UNSPECIFIED:
	case keydv1.Ceremony_OPEN, keydv1.Ceremony_COMPLETED, keydv1.Ceremony_ABORTED, keydv1.Ceremony_EXPIRED:
		state = store.CeremonyState(r.GetState().String())
	default:
		return nil, fault.New(fault.RequestInvalid, "state is none of a ceremony")
	}
	if err := b.access.Authorize(ctx, ceremonyService+"ListCeremonies", nil); err != nil {
		return nil, err
	}
	list, more, err := b.officers.List(ctx, state, before, id, size)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListCeremoniesResponse)
	for _, cer := range list {
		m := ceremonyMessage(cer)
		m.Opening, m.Definition, m.Submissions, m.Approvals, m.Record, m.KeyBlock = nil, nil, nil, nil, nil, ""
		answer.Ceremonies = append(answer.Ceremonies, m)
	}
	if more != nil {
		answer.NextPageToken = ceremonyToken(more)
	}
	return answer, nil
}

// ListAuthorities implements keyd.v1.CeremonyService.
func (b ceremonyBinding) ListAuthorities(ctx context.Context, _ *keydv1.ListAuthoritiesRequest) (*keydv1.ListAuthoritiesResponse, error) {
	if err := b.access.Authorize(ctx, ceremonyService+"ListAuthorities", nil); err != nil {
		return nil, err
	}
	answer := new(keydv1.ListAuthoritiesResponse)
	for _, a := range b.officers.Authorities() {
		c, err := a.Parse()
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err) // a module has checked it
		}
		answer.Authorities = append(answer.Authorities, &keydv1.Authority{
			Fingerprint: a.Fingerprint(), Uses: a.Uses, Certificate: a.Certificate, Subject: c.Subject.String(),
			NotBefore: timestamppb.New(c.NotBefore), NotAfter: timestamppb.New(c.NotAfter),
		})
	}
	return answer, nil
}

func signedDocument(field string, m *keydv1.SignedDocument) (ceremony.Signed, error) {
	if len(m.GetDocument()) == 0 || len(m.GetDocument()) > ceremony.MaxDocument || len(m.GetSignature()) == 0 || len(m.GetSignature()) > 512 {
		return ceremony.Signed{}, fault.New(fault.RequestInvalid, field+" is a document with its signature")
	}
	return ceremony.Signed{Document: m.Document, Signature: m.Signature}, nil
}

func signedMessage(s ceremony.Signed) *keydv1.SignedDocument {
	return &keydv1.SignedDocument{Document: s.Document, Signature: s.Signature}
}

func ceremonyMessage(cer *keys.Ceremony) *keydv1.Ceremony {
	m := &keydv1.Ceremony{
		CeremonyId: cer.ID, Kind: string(cer.Kind), Subject: cer.Subject, State: keydv1.Ceremony_State(keydv1.Ceremony_State_value[string(cer.State)]),
		CheckValue: cer.CheckValue, ComponentsMissing: int32(cer.Missing.Components), ApprovalsMissing: int32(cer.Missing.Approvals),
		OpenedAt: timestamppb.New(cer.OpenedAt), ExpiresAt: timestamppb.New(cer.Expiry), KeyBlock: cer.Block, Node: cer.Node,
	}
	if p := cer.Papers; p != nil {
		m.Opening, m.Definition = signedMessage(p.Opening), p.Definition
		for _, s := range p.Submissions {
			m.Submissions = append(m.Submissions, signedMessage(s.Statement))
		}
		for _, a := range p.Approvals {
			m.Approvals = append(m.Approvals, signedMessage(a))
		}
	}
	if cer.Record != nil {
		m.Record = signedMessage(*cer.Record)
	}
	return m
}
