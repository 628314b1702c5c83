package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// onlyModule is what no front refuses for by itself; the tests of the whole service
// show these.
var onlyModule = map[fault.Reason]bool{
	fault.KeyUsageMismatch:       true,
	fault.TranslationForbidden:   true,
	fault.PermitMissing:          true,
	fault.SignatureInvalid:       true,
	fault.StatementMismatch:      true,
	fault.OfficerRepeated:        true,
	fault.QuorumMissing:          true,
	fault.ComponentInvalid:       true,
	fault.CheckValueMismatch:     true,
	fault.KeyExists:              true,
	fault.KeyBlockInvalid:        true,
	fault.KeyValueRefused:        true,
	fault.ExportForbidden:        true,
	fault.InitialKeyAllotted:     true,
	fault.LedgerUnavailable:      true,
	fault.EpochInvalid:           true,
	fault.ReceiptInvalid:         true,
	fault.PINRecordEnded:         true,
	fault.PINWeak:                true,
	fault.PINRecordState:         true, // after approvers whom officers believe
	fault.CheckpointOlder:        true,
	fault.CheckpointInconsistent: true,
	fault.CheckpointNotKept:      true,
	fault.KSNReplayed:            true, // after the module has carried the request out
	fault.CustodyUnavailable:     true,
	fault.PINBlockInvalid:        true,
	fault.RateLimited:            true,
}

// TestReasons walks the table of reasons: each is in the document with its code and
// its message, in the same order, and each that the front gives is given by a real
// server, recorded, and logged without what was sent.
func TestReasons(t *testing.T) {
	documented := documentedReasons(t)
	if len(documented) != len(fault.Table) {
		t.Errorf("the document has %d reasons, the table %d", len(documented), len(fault.Table))
	}
	for i, row := range fault.Table {
		if i < len(documented) {
			want := []string{"`" + row.Name + "`", "`" + code.Code_name[int32(row.Code)] + "`", row.Message}
			for column, text := range want {
				if documented[i][column] != text {
					t.Errorf("row %d of the document: %q, want %q", i+1, documented[i][column], text)
				}
			}
		}
		provoke := provocations[row.Reason]
		if (provoke == nil) != onlyModule[row.Reason] {
			t.Errorf("%s: it is not shown, or shown though it is the module's", row.Name)
		}
		if provoke == nil {
			continue
		}
		method := officersMethods[row.Reason]
		if method == "" {
			method = "PinService/TranslatePinData"
		}
		t.Run(row.Name, func(t *testing.T) {
			f := newFront(t)
			f.put("may.zone", "P0")
			f.put("may.stopped", "P0", func(r *store.KeyRecord, _ *hsm.Header) { r.State = store.Disabled })
			f.put("may.renamed", "P0", func(_ *store.KeyRecord, h *hsm.Header) { h.Name = "may.zone" })
			answer, err := provoke(f)
			s := status.Convert(err)
			if answer != nil || s.Code() != row.Code || reason(err) != row.Name || !strings.HasPrefix(s.Message(), row.Message) {
				t.Fatalf("%v, %v", answer, err)
			}
			info := s.Details()[0].(*errdetails.ErrorInfo)
			if len(s.Details()) != 1 || info.Domain != "keyd" || len(info.Metadata[requestIDKey]) < 20 {
				t.Errorf("details %v", s.Details())
			}
			if row.Reason != fault.AuditUnavailable {
				r := f.lastRecord(1)
				decision := audit.Failed
				if row.Reason == fault.PolicyDenied || row.Reason == fault.IdentityUnknown {
					decision = audit.Denied
				}
				if r.Decision != decision || r.Reason != row.Name || r.RequestID != info.Metadata[requestIDKey] || r.Method != method {
					t.Errorf("recorded: %+v", r)
				}
			}
			if log := f.log.String(); !strings.Contains(log, row.Name) || !strings.Contains(log, info.Metadata[requestIDKey]) {
				t.Errorf("logged: %s", log)
			}
			f.nothingLeaked(err)
		})
	}
}

// provocations make a real server give each reason.
var provocations = map[fault.Reason]func(*front) (any, error){
	fault.RequestInvalid: func(f *front) (any, error) {
		return f.start().translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.EncryptedPinBlock = r.EncryptedPinBlock[1:] })
	},
	fault.KSNInvalid: func(f *front) (any, error) {
		return f.start().translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.Incoming.Dukpt = &keydv1.DukptAttributes{} })
	},
	fault.IdentityUnknown: func(f *front) (any, error) {
		f.start()
		return nilAnswer(keydv1.NewPinServiceClient(f.connect(f.ca.client(f.t))).TranslatePinData(f.t.Context(), translation()))
	},
	fault.PolicyDenied: func(f *front) (any, error) { return f.start().translate("auditor") },
	fault.KeyNotFound: func(f *front) (any, error) {
		return f.start().translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.Outgoing.KeyId = "may.exist" })
	},
	fault.KeyDisabled: func(f *front) (any, error) {
		return f.start().translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.Outgoing.KeyId = "may.stopped" })
	},
	fault.KeySealInvalid: func(f *front) (any, error) {
		return f.start().translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.Outgoing.KeyId = "may.renamed" })
	},
	fault.DefinitionInvalid: func(f *front) (any, error) {
		stop, err := ceremony.Encode(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "may.zone", Version: 1}, ValidFor: 3600})
		if err != nil {
			f.t.Fatal(err)
		}
		c := keydv1.NewKeyServiceClient(f.withOfficers().start().as("officer-1"))
		return nilAnswer(c.CreateKey(f.t.Context(), &keydv1.KeyChangeRequest{Definition: stop, Statement: paper(f.t, "officer-1")}))
	},
	fault.OfficerUnknown:   func(f *front) (any, error) { return f.withOfficers().start().approve("officer-2", openCeremony) },
	fault.CeremonyNotFound: func(f *front) (any, error) { return f.withOfficers().start().approve("officer-1", noCeremony) },
	fault.CeremonyClosed: func(f *front) (any, error) {
		f.putCeremony(openCeremony, store.CeremonyAborted, time.Now().Add(time.Hour))
		return f.withOfficers().start().approve("officer-1", openCeremony)
	},
	fault.CeremonyExpired: func(f *front) (any, error) {
		f.putCeremony(openCeremony, store.CeremonyOpen, time.Now().Add(-time.Second))
		return f.withOfficers().start().approve("officer-1", openCeremony)
	},
	fault.EpochStale: func(f *front) (any, error) { return f.start().approve("officer-1", openCeremony) },
	fault.Conflict: func(f *front) (any, error) {
		c := keydv1.NewKeyServiceClient(f.withOfficers().start().as("officer-1"))
		return nilAnswer(c.UpdateAlias(f.t.Context(), &keydv1.UpdateAliasRequest{AliasName: "may.alias", KeyId: "may.zone", ExpectedKeyId: "may.stopped"}))
	},
	fault.TerminalNotFound: func(f *front) (any, error) {
		c := keydv1.NewTerminalServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.GetTerminal(f.t.Context(), &keydv1.GetTerminalRequest{TerminalId: "t-none"}))
	},
	fault.CertificateInvalid: func(f *front) (any, error) { return f.start().register("t-1", []byte("none")) },
	fault.CertificateRole: func(f *front) (any, error) {
		return f.start().register("t-1", f.device(func(c *x509.Certificate) { c.Subject.CommonName = "KDH 1" }))
	},
	fault.CertificateExpired: func(f *front) (any, error) {
		return f.start().register("t-1", f.device(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	},
	fault.CertificateUntrusted: func(f *front) (any, error) { return f.start().register("t-1", f.device()) },
	fault.TerminalExists: func(f *front) (any, error) {
		f.trust().putTerminal("t-1", f.device())
		return f.start().register("t-1", f.device())
	},
	fault.PublicKeyKnown: func(f *front) (any, error) {
		device := f.device()
		f.trust().putTerminal("t-0", device)
		return f.start().register("t-1", device)
	},
	fault.TerminalState: func(f *front) (any, error) {
		f.putTerminal("t-1")
		c := keydv1.NewTerminalServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.ResumeTerminal(f.t.Context(), &keydv1.ChangeTerminalRequest{TerminalId: "t-1"}))
	},
	fault.CertificateRevoked: func(f *front) (any, error) {
		if _, err := f.trust().config.Distribution.SetList(f.t.Context(), f.crl(1, 1), nil); err != nil {
			f.t.Fatal(err)
		}
		return f.start().register("t-1", f.device(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1000) }))
	},
	fault.KeySetNotFound: func(f *front) (any, error) {
		f.putTerminal("t-1")
		c := keydv1.NewTerminalServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.AssignKeySet(f.t.Context(), &keydv1.AssignKeySetRequest{TerminalId: "t-1", KeySet: "none"}))
	},
	fault.InjectionNotFound: func(f *front) (any, error) {
		f.putTerminal("t-1")
		c := keydv1.NewTerminalServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.GetInjection(f.t.Context(), &keydv1.GetInjectionRequest{TerminalId: "t-1", InjectionId: noCeremony}))
	},
	fault.InjectionState: func(f *front) (any, error) {
		f.putShop("t-1")
		return nilAnswer(keydv1.NewTerminalServiceClient(f.start().as("officer-1")).SignIn(f.t.Context(), &keydv1.SignInRequest{TerminalId: "t-1"}))
	},
	fault.RequestReplayed: func(f *front) (any, error) {
		f.putShop("t-1")
		f.putInjection("t-1", []byte("01234567"), store.Wanted{Name: "pin", BDK: "may.bdk", Own: make([]byte, 8)})
		return f.start().twoPass("t-1", []byte("01234567"))
	},
	fault.NumbersExhausted: func(f *front) (any, error) {
		f.putShop("t-1")
		f.putInjection("t-1", []byte("another number"), store.Wanted{Name: "pin", BDK: "may.bdk", Range: store.Range{Prefix: []byte{1, 2, 3, 4}}})
		return f.start().twoPass("t-1", []byte("01234567"))
	},
	fault.ApprovalInvalid: func(f *front) (any, error) {
		c := keydv1.NewPinRecordServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.BeginPin(f.t.Context(), &keydv1.BeginPinRequest{Approvals: []*keydv1.PinApproval{{Document: []byte("{}")}}}))
	},
	fault.VoidNotFound: func(f *front) (any, error) {
		c := keydv1.NewVoidServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.GetVoid(f.t.Context(), &keydv1.GetVoidRequest{VoidId: strings.Repeat("0", 32)}))
	},
	fault.VoidCodeRefused: func(f *front) (any, error) {
		c := keydv1.NewVoidServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.ScanVoid(f.t.Context(), &keydv1.ScanVoidRequest{RequestId: "r", Code: "NOCODE", Merchant: "m-1"}))
	},
	fault.PINRecordNotFound: func(f *front) (any, error) {
		c := keydv1.NewPinRecordServiceClient(f.start().as("officer-1"))
		return nilAnswer(c.RevokePin(f.t.Context(), &keydv1.RevokePinRequest{Subject: &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: "m-1", Name: "dora"}}))
	},
	fault.ModuleUnavailable: func(f *front) (any, error) { return f.start().translate("switch") },
	fault.StoreUnavailable: func(f *front) (any, error) {
		if err := f.store.Close(); err != nil {
			f.t.Fatal(err)
		}
		return f.start().translate("switch")
	},
	fault.AuditUnavailable: func(f *front) (any, error) {
		if err := f.config.Audit.Close(); err != nil {
			f.t.Fatal(err)
		}
		return f.start().translate("switch")
	},
	fault.Internal: func(f *front) (any, error) {
		f.startWith(pins(func(context.Context, *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
			return nil, errors.New("something of no concern to callers: " + testPAN)
		}))
		return f.translate("switch")
	},
}

// officersMethods are what shows the reasons that switches do not meet.
var officersMethods = map[fault.Reason]string{
	fault.DefinitionInvalid: "KeyService/CreateKey",
	fault.OfficerUnknown:    "CeremonyService/ApproveCeremony",
	fault.CeremonyNotFound:  "CeremonyService/ApproveCeremony",
	fault.CeremonyClosed:    "CeremonyService/ApproveCeremony",
	fault.CeremonyExpired:   "CeremonyService/ApproveCeremony",
	fault.EpochStale:        "CeremonyService/ApproveCeremony",
	fault.Conflict:          "KeyService/UpdateAlias",

	fault.TerminalNotFound:     "TerminalService/GetTerminal",
	fault.CertificateInvalid:   "TerminalService/RegisterTerminal",
	fault.CertificateRole:      "TerminalService/RegisterTerminal",
	fault.CertificateExpired:   "TerminalService/RegisterTerminal",
	fault.CertificateUntrusted: "TerminalService/RegisterTerminal",
	fault.TerminalExists:       "TerminalService/RegisterTerminal",
	fault.PublicKeyKnown:       "TerminalService/RegisterTerminal",
	fault.TerminalState:        "TerminalService/ResumeTerminal",
	fault.CertificateRevoked:   "TerminalService/RegisterTerminal",
	fault.KeySetNotFound:       "TerminalService/AssignKeySet",
	fault.InjectionNotFound:    "TerminalService/GetInjection",
	fault.InjectionState:       "TerminalService/SignIn",
	fault.RequestReplayed:      "TerminalService/InjectKeys",

	fault.ApprovalInvalid:   "PinRecordService/BeginPin",
	fault.PINRecordNotFound: "PinRecordService/RevokePin",
	fault.VoidNotFound:      "VoidService/GetVoid",
	fault.VoidCodeRefused:   "VoidService/ScanVoid",
	fault.NumbersExhausted:  "TerminalService/InjectKeys",
}

const (
	openCeremony = "0123456789abcdef0123456789abcdef"
	noCeremony   = "ffffffffffffffffffffffffffffffff"
)

// approve hands in an approval of officer-1's.
func (f *front) approve(as, id string) (any, error) {
	f.t.Helper()
	c := keydv1.NewCeremonyServiceClient(f.as(as))
	return nilAnswer(c.ApproveCeremony(f.t.Context(), &keydv1.ApproveCeremonyRequest{CeremonyId: id, Statement: paper(f.t, "officer-1")}))
}

func (f *front) translate(as string, change ...func(*keydv1.TranslatePinDataRequest)) (any, error) {
	f.t.Helper()
	r := translation()
	for _, c := range change {
		c(r)
	}
	return nilAnswer(keydv1.NewPinServiceClient(f.as(as)).TranslatePinData(f.t.Context(), r))
}

func nilAnswer[T any](answer *T, err error) (any, error) {
	if answer == nil {
		return nil, err
	}
	return answer, err
}

// nothingLeaked looks for what was sent in the log, in the audit log and in the error.
// An error's cause is logged: keyd's own errors hold no data of a request, so here the
// test's own, which does, is left out.
func (f *front) nothingLeaked(err error) {
	f.t.Helper()
	recorded, readErr := os.ReadFile(f.segment())
	if readErr != nil {
		f.t.Fatal(readErr)
	}
	log := strings.ReplaceAll(f.log.String(), "something of no concern to callers: "+testPAN, "")
	for what, text := range map[string]string{"log": log, "audit log": string(recorded), "error": fmt.Sprint(err, status.Convert(err).Details())} {
		for _, sent := range []string{testPAN, testPAN[:12], testBlock, hex.EncodeToString([]byte(testBlock)), strings.ToUpper(hex.EncodeToString([]byte(testBlock)))} {
			if strings.Contains(text, sent) {
				f.t.Errorf("the %s holds %q: %s", what, sent, text)
			}
		}
		if what == "error" && strings.Contains(text, "no concern") {
			f.t.Errorf("an internal error's text crossed the wire: %s", text)
		}
	}
}

// documentedReasons returns the rows of the table in docs/errors.md.
func documentedReasons(t *testing.T) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := bytes.Cut(b, []byte("|---|---|---|---|---|\n"))
	for line := range strings.Lines(string(table)) {
		if !strings.HasPrefix(line, "|") {
			return rows
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 {
			t.Fatalf("a row with %d cells: %s", len(cells), line)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
			if cells[i] == "" {
				t.Errorf("an empty cell: %s", line)
			}
		}
		rows = append(rows, cells)
	}
	return rows
}

// TestErrorsCross is about what errors of the domain become.
func TestErrorsCross(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		code    codes.Code
		reason  string
		message string
	}{
		"a refusal":               {fault.New(fault.KeyDisabled, "incoming.key_id"), codes.FailedPrecondition, "KEY_DISABLED", "the key is stopped or not valid now: incoming.key_id"},
		"a wrapped refusal":       {fmt.Errorf("secret: %w", fault.New(fault.KeyDisabled, "x")), codes.FailedPrecondition, "KEY_DISABLED", "the key is stopped or not valid now: x"},
		"a refusal with a cause":  {fault.Wrap(fault.StoreUnavailable, errors.New("secret")), codes.Unavailable, "STORE_UNAVAILABLE", "the database cannot be read or written"},
		"a block":                 {fault.New(fault.PINBlockInvalid, "secret"), codes.InvalidArgument, "PIN_BLOCK_INVALID", "the PIN block is not valid"},
		"another error":           {errors.New("secret"), codes.Internal, "INTERNAL", "an internal error; the operator's log has the details"},
		"a status of another's":   {status.Error(codes.OK+5, "secret"), codes.Internal, "INTERNAL", "an internal error; the operator's log has the details"},
		"an end by the caller":    {fmt.Errorf("secret: %w", context.Canceled), codes.Canceled, "Canceled", "context canceled"},
		"a deadline":              {fmt.Errorf("secret: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "DeadlineExceeded", "context deadline exceeded"},
		"a reason for a deadline": {fault.Wrap(fault.ModuleUnavailable, context.DeadlineExceeded), codes.Unavailable, "MODULE_UNAVAILABLE", "no security module answered in time"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t)
			f.startWith(pins(func(context.Context, *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
				return nil, c.err
			}))
			_, err := f.translate("switch")
			if s := status.Convert(err); s.Code() != c.code || reason(err) != c.reason || s.Message() != c.message {
				t.Errorf("%v", err)
			}
			if strings.Contains(fmt.Sprint(err, status.Convert(err).Details()), "secret") {
				t.Errorf("the cause crossed the wire: %v", err)
			}
			if r := f.lastRecord(1); r.Decision != audit.Failed || strings.Contains(r.Detail, "secret") {
				t.Errorf("recorded: %+v", r)
			}
		})
	}
}

// TestOrderThroughService makes several things wrong at once, through the wire.
func TestOrderThroughService(t *testing.T) {
	f := newFront(t).start()
	f.put("may.zone", "P0")
	noIdentity := keydv1.NewPinServiceClient(f.connect(f.ca.client(t)))
	auditor := keydv1.NewPinServiceClient(f.as("auditor"))
	for name, c := range map[string]struct {
		client keydv1.PinServiceClient
		change func(*keydv1.TranslatePinDataRequest)
		want   string
	}{
		"identity before shape":   {noIdentity, func(r *keydv1.TranslatePinDataRequest) { r.Incoming = nil }, "IDENTITY_UNKNOWN"},
		"shape before policy":     {auditor, func(r *keydv1.TranslatePinDataRequest) { r.Incoming = nil }, "REQUEST_INVALID"},
		"request before KSN":      {auditor, func(r *keydv1.TranslatePinDataRequest) { r.Incoming.Dukpt, r.Outgoing = &keydv1.DukptAttributes{}, nil }, "REQUEST_INVALID"},
		"KSN before policy":       {auditor, func(r *keydv1.TranslatePinDataRequest) { r.Incoming.Dukpt = &keydv1.DukptAttributes{} }, "KSN_INVALID"},
		"policy before existence": {auditor, func(r *keydv1.TranslatePinDataRequest) { r.Incoming.KeyId = "nowhere" }, "POLICY_DENIED"},
	} {
		r := translation()
		c.change(r)
		if _, err := c.client.TranslatePinData(t.Context(), r); reason(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
