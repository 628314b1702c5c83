package client

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
)

// A method without a row would silently never be repeated: somebody has to decide.
func TestEveryMethodHasARow(t *testing.T) {
	left := make(map[string]bool, len(methods))
	for name := range methods {
		left[name] = true
	}
	for _, m := range contract(t) {
		row, ok := methods[fullName(m)]
		if !ok {
			t.Errorf("%s has no row in methods.go: may it be repeated?", fullName(m))
		}
		if ok && (row == itemwise) != m.IsStreamingClient() {
			t.Errorf("%s: itemwise is for streams of requests, and for all of them", fullName(m))
		}
		delete(left, fullName(m))
	}
	for name := range left {
		t.Errorf("methods.go has a row for %s, which does not exist", name)
	}
}

func TestEveryReasonHasAVerdict(t *testing.T) {
	for _, row := range fault.Table {
		v, ok := verdicts[Reason(row.Name)]
		if !ok {
			t.Errorf("%s has no row in methods.go", row.Name)
		}
		if (v == unsure || v == unrecorded) != (row.Code == codes.Unavailable) {
			t.Errorf("%s (%s) has verdict %d", row.Name, row.Code, v)
		}
	}
	if len(verdicts) != len(fault.Table) {
		t.Errorf("%d verdicts on %d reasons", len(verdicts), len(fault.Table))
	}
}

// TestWhatIsSentAgain has every method answered with every error, always, and counts at
// the servers how often it was sent. What is expected is written down again here: it is a
// decision about money, not about code.
func TestWhatIsSentAgain(t *testing.T) {
	const attempts = 3
	sentAtMost := map[string]int{ // after an error that leaves open whether it was done
		"PinService/TranslatePinData": attempts, "PinService/GeneratePinData": attempts,
		"PinService/VerifyPinData": 2, "PinService/ChangePinData": 2,
		"MacService/GenerateMac": attempts, "MacService/VerifyMac": attempts,
		"DataService/EncryptData": attempts, "DataService/DecryptData": attempts, "DataService/ReEncryptData": attempts,
		"DataService/GenerateCardValidationData": attempts, "DataService/VerifyCardValidationData": 2,
		"VelocityService/ResetVerifications": 1, "VelocityService/ResetTranslations": 1,
		"StatusService/GetStatus": attempts, "FleetService/ListNodes": attempts, "FleetService/ForgetNode": 1,
		"AuditService/ListEntries": attempts, "AuditService/GetCheckpoint": attempts, "AuditService/GetInclusionProof": attempts, "AuditService/GetConsistencyProof": attempts,

		"CeremonyService/BeginCeremony": 1, "CeremonyService/SubmitComponent": 1, "CeremonyService/ApproveCeremony": 1, "CeremonyService/AbortCeremony": 1,
		"CeremonyService/GetModule": attempts, "CeremonyService/GetCeremony": attempts, "CeremonyService/ListCeremonies": attempts, "CeremonyService/ListAuthorities": attempts,
		"KeyService/CreateKey": 1, "KeyService/ImportKey": 1, "KeyService/ExportKey": 1, "KeyService/AttachKey": 1,
		"KeyService/StopKeyUsage": 1, "KeyService/StartKeyUsage": 1, "KeyService/DeleteKey": 1, "KeyService/RestoreKey": 1,
		"KeyService/CreateAlias": 1, "KeyService/UpdateAlias": 1, "KeyService/DeleteAlias": 1,
		"KeyService/TagResource": 1, "KeyService/UntagResource": 1,
		"KeyService/GetKey": attempts, "KeyService/ListKeys": attempts, "KeyService/ListKeyVersions": attempts,
		"KeyService/GetAlias": attempts, "KeyService/ListAliases": attempts, "KeyService/ListTagsForResource": attempts,
		"KeyService/GetCertificateSigningRequest": attempts,

		"VoidService/AuthorizeVoid": 2,
		"VoidService/CreateVoid":    attempts, "VoidService/ScanVoid": attempts, "VoidService/ApproveVoid": attempts, "VoidService/ConfirmVoid": attempts, // the same again changes nothing
		"VoidService/CancelVoid": attempts, "VoidService/GetVoid": attempts, "VoidService/GetVoidToken": attempts, "VoidService/ListVoids": attempts,

		"PinRecordService/VerifyPin": 2, "PinRecordService/SetPin": 2, "PinRecordService/ChangePin": 2,
		"PinRecordService/BeginPin": attempts, "PinRecordService/RevokePin": attempts, "PinRecordService/GetPinRecord": attempts, // the same again changes nothing
		"PinRecordService/ListPinRecords": attempts, "PinRecordService/ListPinEvents": attempts,

		"TerminalService/RegisterTerminal": attempts, "TerminalService/RenewTerminalCertificate": attempts, // the same again changes nothing
		"TerminalService/SuspendTerminal": 1, "TerminalService/ResumeTerminal": 1, "TerminalService/RetireTerminal": 1, "TerminalService/ReplaceTerminal": 1,
		"TerminalService/SetKeyHost": attempts, "TerminalService/SetKeySet": attempts, "TerminalService/AssignKeySet": attempts, // likewise
		"TerminalService/InjectKeys": attempts, "TerminalService/ConfirmKeys": attempts, "TerminalService/SignIn": attempts,
		"TerminalService/UnbindTerminal": 1, "TerminalService/RebindTerminal": 1,
		"TerminalService/GetKeyHost": attempts, "TerminalService/ListKeyHosts": attempts, "TerminalService/ListKeySets": attempts,
		"TerminalService/ListRevocationLists": attempts, "TerminalService/ListInjections": attempts, "TerminalService/GetInjection": attempts,
		"TerminalService/GetTerminal": attempts, "TerminalService/ListTerminals": attempts, "TerminalService/ListTerminalEvents": attempts,
	}
	type failure struct {
		name   string
		err    error
		unsure bool
		later  bool
	}
	failures := []failure{{name: "UNAVAILABLE", err: status.Error(codes.Unavailable, "broken"), unsure: true}}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if c != codes.Unavailable {
			failures = append(failures, failure{name: c.String(), err: status.Error(c, "")})
		}
	}
	for _, row := range fault.Table {
		failures = append(failures, failure{name: row.Name, err: refusal(t, row.Code, row.Name), unsure: row.Code == codes.Unavailable})
		if row.Code != codes.Unavailable && row.Name != "RATE_LIMITED" { // RetryInfo alone moves nothing
			failures = append(failures, failure{name: row.Name + " with RetryInfo", err: refusal(t, row.Code, row.Name, retryInfo(0))})
		}
	}
	failures = append(failures,
		failure{name: "RATE_LIMITED with RetryInfo", err: refusal(t, codes.ResourceExhausted, "RATE_LIMITED", retryInfo(time.Millisecond)), later: true},
		failure{name: "a reason of the future", err: refusal(t, codes.Unavailable, "NEVER_HEARD_OF")},
	)
	a := newAuthority(t)
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			answer := func(context.Context, string, proto.Message) error { return f.err }
			servers := []*recorder{startRecorder(t, a, answer), startRecorder(t, a, answer)}
			c := newClient(t, a, Config{Attempts: attempts}, servers...)
			for _, m := range contract(t) {
				if streams(m) {
					continue
				}
				short := fmt.Sprintf("%s/%s", m.Parent().Name(), m.Name())
				most, known := sentAtMost[short]
				want := 1
				switch {
				case !known:
					t.Errorf("%s: nobody has decided how often it may be sent", short)
					continue
				case f.unsure:
					want = most
				case f.later:
					want = attempts
				}
				err := c.Conn().Invoke(t.Context(), fullName(m), messageOf(t, m.Input()), messageOf(t, m.Output()))
				if status.Code(err) != status.Code(f.err) {
					t.Errorf("%s: %v", short, err)
				}
				if got := servers[0].count(fullName(m)) + servers[1].count(fullName(m)); got != want {
					t.Errorf("%s was sent %d times, want %d", short, got, want)
				}
			}
		})
	}
}

func TestTryRepeats(t *testing.T) {
	a := newAuthority(t)
	for repeats, want := range map[int]int{-1: 1, 0: 2, 1: 2, 3: 4} {
		s := startRecorder(t, a, func(context.Context, string, proto.Message) error { return status.Error(codes.Unavailable, "") })
		c := newClient(t, a, Config{TryRepeats: repeats, Timeout: 20 * time.Second}, s)
		_, err := c.Pin().VerifyPinData(t.Context(), &keydv1.VerifyPinDataRequest{})
		if got := s.total(); status.Code(err) != codes.Unavailable || got != want {
			t.Errorf("TryRepeats %d: sent %d times, want %d; %v", repeats, got, want, err)
		}
	}
}

// Every request that can name a DUKPT terminal has a home.
func TestEveryTerminalHasAHome(t *testing.T) {
	serial := []byte{0xFF, 0xFF, 0x98, 0x76, 0x54, 0x32, 0x10, 0xE0, 0, 1}
	attributes := (&keydv1.DukptAttributes{}).ProtoReflect().Descriptor()
	found := 0
	for _, m := range contract(t) {
		if streams(m) {
			continue
		}
		request := messageOf(t, m.Input()).ProtoReflect()
		for i := range request.Descriptor().Fields().Len() {
			field := request.Descriptor().Fields().Get(i)
			if field.Message() == nil {
				continue
			}
			for j := range field.Message().Fields().Len() {
				if inner := field.Message().Fields().Get(j); inner.Message() == attributes {
					found++
					request := request.New()
					request.Mutable(field).Message().Mutable(inner).Message().Set(attributes.Fields().ByName("key_serial_number"), protoreflect.ValueOfBytes(serial))
					if id := terminalOf(request.Interface()); !slices.Equal(id, serial[:8]) {
						t.Errorf("%s: %s.%s makes %X the terminal", fullName(m), field.Name(), inner.Name(), id)
					}
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d keys can have a KSN", found)
	}
}

func TestInitialKeyID(t *testing.T) {
	for _, c := range []struct {
		ksn  []byte
		want []byte
	}{
		{[]byte{1, 2, 3, 4, 5, 6, 7, 0xFF, 0xFF, 0xFF}, []byte{1, 2, 3, 4, 5, 6, 7, 0xE0}},
		{[]byte{1, 2, 3, 4, 5, 6, 7, 0x1F, 0, 1}, []byte{1, 2, 3, 4, 5, 6, 7, 0}},
		{[]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9}, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{nil, nil},
		{make([]byte, 8), nil},
	} {
		if got := initialKeyID(c.ksn); !slices.Equal(got, c.want) {
			t.Errorf("%X: %X, want %X", c.ksn, got, c.want)
		}
	}
}
