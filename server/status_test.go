package server

import (
	"reflect"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/hsm"
	"keyd/supervisor/child"
)

func TestStatus(t *testing.T) {
	f := newFront(t)
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.config.Version = "1.2.3"
	f.config.Processes = func() []child.ChildState {
		return []child.ChildState{
			{Role: child.RoleFront, PID: 10, Phase: child.PhaseReady, Since: since},
			{Role: child.RoleModule, Index: 1, PID: 11, Phase: child.PhaseStarting, Restarts: 3, LastExit: "signal: killed", Since: since},
		}
	}
	f.config.Confinement = []hsm.Measure{{Name: "landlock", State: "partial", Detail: "ABI 3"}}
	f.put("a", "P0")
	f.put("b", "P0")
	before := time.Now()
	f.start()
	client := keydv1.NewStatusServiceClient(f.as("auditor"))
	for n := range uint64(2) {
		head := f.config.Audit.Head()
		answer, err := client.GetStatus(t.Context(), &keydv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if answer.Version != "1.2.3" || answer.Keys != 2 || answer.AuditEntries != n+1 || answer.AuditLog.Origin != f.config.Audit.Origin() || answer.AuditHead != head.Hash.String() || answer.Development || len(answer.Tokens) != 0 {
			t.Errorf("%v", answer)
		}
		if started := answer.StartedAt.AsTime(); started.Before(before.Add(-time.Second)) || started.After(time.Now()) {
			t.Errorf("started at %v", started)
		}
		if len(answer.Processes) != 2 || len(answer.FrontConfinement) != 1 {
			t.Fatalf("%v", answer)
		}
		p, m := answer.Processes[1], answer.FrontConfinement[0]
		got := []any{p.Role, p.Index, p.Pid, p.State, p.Restarts, p.LastExit, p.Since.AsTime(), m.Name, m.State, m.Detail}
		if want := []any{"module", int32(1), int64(11), "starting", int32(3), "signal: killed", since, "landlock", "partial", "ABI 3"}; !reflect.DeepEqual(got, want) {
			t.Errorf("%v", got)
		}
	}
}
