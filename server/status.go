package server

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/hsm"
	"keyd/keys"
	"keyd/ksn"
	"keyd/store"
	"keyd/supervisor/child"
	"keyd/terminals"
)

// actionStatus is what a policy allows for keyd.v1.StatusService.
const actionStatus = "StatusService/GetStatus"

// statusBinding answers what runs here. It reads and changes nothing.
type statusBinding struct {
	keydv1.UnimplementedStatusServiceServer
	access      gate
	version     string
	started     time.Time
	processes   func() []child.ChildState
	confinement []hsm.Measure
	inUse       func() InUse
	connections func() (open int, refused uint64)
	drains      func() bool
	modules     *hsm.Client
	inventory   *keys.Inventory
	serials     *ksn.Ledger
	audit       *audit.Log
	officers    *keys.Ceremonies
	terminals   *terminals.Distribution
}

// GetStatus implements keyd.v1.StatusService. A module that does not answer is missing
// in the answer, and so are keys and nodes while the database does not answer.
func (b statusBinding) GetStatus(ctx context.Context, _ *keydv1.GetStatusRequest) (*keydv1.GetStatusResponse, error) {
	if err := b.access.Authorize(ctx, actionStatus, nil); err != nil {
		return nil, err
	}
	count, missing := b.count(ctx)
	head := b.audit.Head()
	answer := &keydv1.GetStatusResponse{
		Version:          b.version,
		StartedAt:        timestamppb.New(b.started),
		FrontConfinement: measures(b.confinement),
		Keys:             count,
		AuditHead:        head.Hash.String(),
		AuditEntries:     head.Seq,
		KeySerialNumbers: keySerialNumbers(b.serials.Stats()),
	}
	answer.AuditLog = auditLog(b.audit)
	used := b.inUse()
	answer.Policy, answer.Tls = used.Policy.message(), used.TLS.message()
	answer.Pages = used.Pages.message()
	answer.Vault = vaultMessage(used.Vault)
	open, _ := b.connections()
	answer.Connections = uint64(open)
	for _, p := range b.processes() {
		answer.Processes = append(answer.Processes, &keydv1.Process{
			Role: p.Role, Index: int32(p.Index), Pid: int64(p.PID), State: string(p.Phase),
			Restarts: int32(p.Restarts), LastExit: p.LastExit, Since: timestamppb.New(p.Since),
		})
	}
	for _, d := range b.modules.Describe(ctx) {
		answer.Development = answer.Development || d.Development
		answer.Tokens = append(answer.Tokens, &keydv1.Token{
			Module: int32(d.Module), Label: d.Label, Manufacturer: d.Manufacturer, Model: d.Model,
			Generation: d.Generation, Probes: measures(d.Probes), Confinement: measures(d.Confinement),
			SelfTests: d.SelfTests, CachedKeys: d.CachedKeys, DerivedKeys: d.DerivedKeys, Erasure: d.Erasure,
			Velocity: velocity(d.Velocity), Calls: tokenCalls(d.Calls), Errors: tokenErrors(d.Errors),
			EpochLoaded: d.EpochLoaded, EpochPinned: d.EpochPinned, Operations: operations(d.Operations),
		})
	}
	if missing == nil {
		var nodes []store.Node
		nodes, missing = b.nodes(ctx)
		answer.Nodes = nodeMessages(nodes, b.officers.Node)
	}
	var ends []terminals.End
	if missing == nil {
		ends, missing = b.ends(ctx)
	}
	waiting, restored := register(b.officers.Waiting()), register(b.officers.Restored())
	answer.Problems = problems(answer, b.audit.Err(), missing, b.drains(), waiting, restored, ends, time.Now())
	return answer, ctx.Err()
}

// databasePatience bounds the questions to a database that may hang.
const databasePatience = 2 * time.Second

// nodes returns the fleet's, or why the database cannot say.
func (b statusBinding) nodes(ctx context.Context) ([]store.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, databasePatience)
	defer cancel()
	return b.officers.Nodes(ctx)
}

// ends returns what terminals get keys by runs out when, or why the database cannot say.
func (b statusBinding) ends(ctx context.Context) ([]terminals.End, error) {
	ctx, cancel := context.WithTimeout(ctx, databasePatience)
	defer cancel()
	return b.terminals.Ends(ctx)
}

// count counts the keys, or returns why the database cannot say.
func (b statusBinding) count(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, databasePatience)
	defer cancel()
	return b.inventory.Count(ctx)
}

// register names one for people; nothing for none.
func register(version uint64, digest string) string {
	if version == 0 {
		return ""
	}
	return fmt.Sprintf("version %d, %s", version, digest)
}

func measures(list []hsm.Measure) []*keydv1.Measure {
	out := make([]*keydv1.Measure, len(list))
	for i, m := range list {
		out[i] = &keydv1.Measure{Name: m.Name, State: m.State, Detail: m.Detail}
	}
	return out
}

func auditLog(l *audit.Log) *keydv1.AuditLog {
	s := l.Signing()
	return &keydv1.AuditLog{
		Origin: l.Origin(), CheckpointSize: s.Size, CheckpointAt: timestamppb.New(s.At), Uncovered: s.Uncovered,
		Failing: s.Failing, Forgotten: s.Lost,
	}
}

func keySerialNumbers(s ksn.Stats) *keydv1.KeySerialNumbers {
	m := &keydv1.KeySerialNumbers{Accepted: s.Requests, Sequences: uint64(s.Sequences), JournalRows: uint64(s.JournalRows)}
	if s.Failing != nil {
		m.Failing = s.Failing.Error()
	}
	return m
}

func velocity(v *hsm.Velocity) *keydv1.Velocity {
	if v == nil {
		return nil
	}
	m := &keydv1.Velocity{
		Verifications: limitsOf(v.Verifications), Translations: limitsOf(v.Translations), Cards: limitsOf(v.Cards),
		Entries: v.Entries, InUse: v.InUse, Refusals: v.Refusals, Crowded: v.Crowded, Failing: v.Failing,
	}
	if !v.PresumedUntil.IsZero() {
		m.PresumedUntil = timestamppb.New(v.PresumedUntil)
	}
	return m
}

func limitsOf(l hsm.Limits) *keydv1.Limits {
	return &keydv1.Limits{Minute: l.Minute, Hour: l.Hour, Day: l.Day}
}

func tokenCalls(list []hsm.TokenCalls) []*keydv1.TokenCalls {
	out := make([]*keydv1.TokenCalls, len(list))
	for i, c := range list {
		out[i] = &keydv1.TokenCalls{Name: c.Name, Count: c.Count, Blocks: c.Blocks}
	}
	return out
}

func operations(list []hsm.OperationCustody) []*keydv1.OperationCustody {
	out := make([]*keydv1.OperationCustody, len(list))
	for i, o := range list {
		out[i] = &keydv1.OperationCustody{Operation: o.Operation, Custody: custody(o.Custody), Why: o.Why}
	}
	return out
}

func tokenErrors(list []hsm.TokenErrors) []*keydv1.TokenErrors {
	out := make([]*keydv1.TokenErrors, len(list))
	for i, e := range list {
		out[i] = &keydv1.TokenErrors{Class: e.Class, Count: e.Count}
	}
	return out
}
