package datasvc

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
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

// anybody may do everything, and what was asked is kept.
type anybody struct {
	entry audit.Entry
	asked []string
}

func (a *anybody) Authorize(_ context.Context, action string, named []policies.Key) error {
	a.asked = append(a.asked, action)
	for _, k := range named {
		a.asked = append(a.asked, k.Name)
	}
	return nil
}

func (*anybody) Demand(context.Context) policies.Demand { return policies.Demand{} }

func (a *anybody) Entry(context.Context) *audit.Entry { return &a.entry }

// newService is a service without keys: a request of a good shape ends with KEY_NOT_FOUND.
func newService(t *testing.T) (*Service, *anybody) {
	t.Helper()
	s, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	serials, err := ksn.Open(context.Background(), s, ksn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := serials.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	a := &anybody{}
	modules := hsm.NewClient(time.Second, slog.New(slog.DiscardHandler))
	return New(keyuse.New(keys.New(s), serials, a), modules), a
}

// The numbers of the contract.
const (
	retail, cmac, hmac = 2, 3, 4
	cbc, ctr           = 1, 2
)

var (
	tdesKSN = []byte{0xff, 0xff, 0x98, 0x76, 0x54, 0x32, 0x10, 0xe0, 0, 1}
	bdk     = &keyuse.DUKPT{KSN: tdesKSN}
)

// shape is a request, what is wrong with it and the field that a refusal names.
type shape struct {
	name   string
	run    func(context.Context, *Service) error
	reason fault.Reason // 0: nothing is wrong with the shape
	field  string
}

func generate(k MACKey, message []byte, length int32) func(context.Context, *Service) error {
	return func(ctx context.Context, s *Service) error {
		_, err := s.GenerateMAC(ctx, k, message, length)
		return err
	}
}

func verify(k MACKey, mac int) func(context.Context, *Service) error {
	return func(ctx context.Context, s *Service) error {
		_, err := s.VerifyMAC(ctx, k, nil, make([]byte, mac))
		return err
	}
}

func encrypt(k DataKey, data, iv int) func(context.Context, *Service) error {
	return func(ctx context.Context, s *Service) error {
		_, err := s.Encrypt(ctx, k, make([]byte, data), make([]byte, iv))
		return err
	}
}

func decrypt(k DataKey, data, iv int) func(context.Context, *Service) error {
	return func(ctx context.Context, s *Service) error {
		_, err := s.Decrypt(ctx, k, make([]byte, data), make([]byte, iv))
		return err
	}
}

func reEncrypt(in, out DataKey, outIV int) func(context.Context, *Service) error {
	return func(ctx context.Context, s *Service) error {
		_, err := s.ReEncrypt(ctx, ReEncryptRequest{Incoming: in, Outgoing: out, Data: make([]byte, 16), IV: make([]byte, 16), OutgoingIV: make([]byte, outIV)})
		return err
	}
}

func card(c Card) func(context.Context, *Service) error {
	return func(ctx context.Context, s *Service) error { _, err := s.GenerateCard(ctx, c); return err }
}

func verifyCard(value string) func(context.Context, *Service) error {
	return func(ctx context.Context, s *Service) error {
		_, err := s.VerifyCard(ctx, Card{KeyID: "k", PAN: "4111111111111111", CVV2: &Expiry{"1228"}}, value)
		return err
	}
}

var shapes = []shape{
	{"a MAC", generate(MACKey{KeyID: "k", Algorithm: retail}, nil, 0), 0, ""},
	{"a MAC of 4 bytes", generate(MACKey{KeyID: "k", Algorithm: retail}, nil, 4), 0, ""},
	{"a MAC under DUKPT", generate(MACKey{KeyID: "k", Algorithm: cmac, DUKPT: bdk, Direction: response}, nil, 0), 0, ""},
	{"no MAC key", generate(MACKey{Algorithm: retail}, nil, 0), fault.RequestInvalid, "key.key_id"},
	{"no algorithm", generate(MACKey{KeyID: "k"}, nil, 0), fault.RequestInvalid, "key.algorithm"},
	{"algorithm 5", generate(MACKey{KeyID: "k", Algorithm: 5}, nil, 0), fault.RequestInvalid, "key.algorithm"},
	{"algorithm 258", generate(MACKey{KeyID: "k", Algorithm: 258}, nil, 0), fault.RequestInvalid, "key.algorithm"},
	{"padding 2", generate(MACKey{KeyID: "k", Algorithm: retail, Padding: 2}, nil, 0), 0, ""},
	{"padding 3", generate(MACKey{KeyID: "k", Algorithm: retail, Padding: 3}, nil, 0), fault.RequestInvalid, "key.padding_method"},
	{"padding -1", generate(MACKey{KeyID: "k", Algorithm: retail, Padding: -1}, nil, 0), fault.RequestInvalid, "key.padding_method"},
	{"padding of a CMAC", generate(MACKey{KeyID: "k", Algorithm: cmac, Padding: 1}, nil, 0), fault.RequestInvalid, "key.padding_method"},
	{"padding of an HMAC", verify(MACKey{KeyID: "k", Algorithm: hmac, Padding: 2}, 8), fault.RequestInvalid, "key.padding_method"},
	{"a direction without DUKPT", generate(MACKey{KeyID: "k", Algorithm: retail, Direction: request}, nil, 0), fault.RequestInvalid, "key.direction"},
	{"DUKPT without a direction", generate(MACKey{KeyID: "k", Algorithm: retail, DUKPT: bdk}, nil, 0), fault.RequestInvalid, "key.direction"},
	{"direction 3", generate(MACKey{KeyID: "k", Algorithm: retail, DUKPT: bdk, Direction: 3}, nil, 0), fault.RequestInvalid, "key.direction"},
	{"a working key of no type", generate(MACKey{KeyID: "k", Algorithm: retail, DUKPT: &keyuse.DUKPT{KSN: tdesKSN, KeyType: 6}, Direction: request}, nil, 0), fault.RequestInvalid, "key.dukpt.key_type"},
	{"no KSN", generate(MACKey{KeyID: "k", Algorithm: retail, DUKPT: &keyuse.DUKPT{}, Direction: request}, nil, 0), fault.KSNInvalid, "key.dukpt.key_serial_number"},
	{"the largest message", generate(MACKey{KeyID: "k", Algorithm: retail}, make([]byte, MaxMessage), 0), 0, ""},
	{"a message too large", generate(MACKey{KeyID: "k", Algorithm: retail}, make([]byte, MaxMessage+1), 0), fault.RequestInvalid, "message"},
	{"a MAC of 3 bytes", generate(MACKey{KeyID: "k", Algorithm: retail}, nil, 3), fault.RequestInvalid, "mac_length"},
	{"a MAC of 33 bytes", generate(MACKey{KeyID: "k", Algorithm: hmac}, nil, 33), fault.RequestInvalid, "mac_length"},
	{"a MAC of -4 bytes", generate(MACKey{KeyID: "k", Algorithm: hmac}, nil, -4), fault.RequestInvalid, "mac_length"},
	{"a MAC of 260 bytes", generate(MACKey{KeyID: "k", Algorithm: hmac}, nil, 260), fault.RequestInvalid, "mac_length"},
	{"to verify", verify(MACKey{KeyID: "k", Algorithm: hmac}, 32), 0, ""},
	{"nothing to verify", verify(MACKey{KeyID: "k", Algorithm: hmac}, 0), fault.RequestInvalid, "mac has"},
	{"33 bytes to verify", verify(MACKey{KeyID: "k", Algorithm: hmac}, 33), fault.RequestInvalid, "mac has"},

	{"data", encrypt(DataKey{KeyID: "k", Mode: cbc}, 16, 16), 0, ""},
	{"data in CTR mode", encrypt(DataKey{KeyID: "k", Mode: ctr}, 1, 0), 0, ""},
	{"no data key", encrypt(DataKey{Mode: cbc}, 16, 16), fault.RequestInvalid, "key.key_id"},
	{"no mode", encrypt(DataKey{KeyID: "k"}, 16, 16), fault.RequestInvalid, "key.mode"},
	{"mode 3", encrypt(DataKey{KeyID: "k", Mode: 3}, 16, 16), fault.RequestInvalid, "key.mode"},
	{"no data", encrypt(DataKey{KeyID: "k", Mode: cbc}, 0, 16), fault.RequestInvalid, "plaintext"},
	{"the most data", encrypt(DataKey{KeyID: "k", Mode: cbc}, MaxMessage, 0), 0, ""},
	{"too many data", encrypt(DataKey{KeyID: "k", Mode: cbc}, MaxMessage+16, 0), fault.RequestInvalid, "plaintext"},
	{"an IV of 17 bytes", encrypt(DataKey{KeyID: "k", Mode: cbc}, 16, 17), fault.RequestInvalid, "initialization_vector"},
	{"nothing to decipher", decrypt(DataKey{KeyID: "k", Mode: cbc}, 0, 16), fault.RequestInvalid, "ciphertext"},
	{"data with a direction and no DUKPT", decrypt(DataKey{KeyID: "k", Mode: cbc, Direction: request}, 16, 16), fault.RequestInvalid, "key.direction"},
	{"data of a bad KSN", decrypt(DataKey{KeyID: "k", Mode: cbc, DUKPT: &keyuse.DUKPT{KSN: tdesKSN[1:]}, Direction: request}, 16, 16), fault.KSNInvalid, "key.dukpt"},
	{"data to another key", reEncrypt(DataKey{KeyID: "k", Mode: cbc}, DataKey{KeyID: "l", Mode: ctr}, 0), 0, ""},
	{"data to no key", reEncrypt(DataKey{KeyID: "k", Mode: cbc}, DataKey{Mode: ctr}, 0), fault.RequestInvalid, "outgoing.key_id"},
	{"data from no mode", reEncrypt(DataKey{KeyID: "k"}, DataKey{KeyID: "l", Mode: ctr}, 0), fault.RequestInvalid, "incoming.mode"},
	{"an outgoing IV of 17 bytes", reEncrypt(DataKey{KeyID: "k", Mode: cbc}, DataKey{KeyID: "l", Mode: cbc}, 17), fault.RequestInvalid, "outgoing_initialization_vector"},
	{"an outgoing KSN", reEncrypt(DataKey{KeyID: "k", Mode: cbc}, DataKey{KeyID: "l", Mode: cbc, DUKPT: &keyuse.DUKPT{}, Direction: response}, 0), fault.KSNInvalid, "outgoing.dukpt"},

	{"a CVV", card(Card{KeyID: "k", PAN: "4111111111111111", CVV: &CVV{"2812", "101"}}), 0, ""},
	{"a CVV2 of 19 digits", card(Card{KeyID: "k", PAN: "4111111111111111111", CVV2: &Expiry{"1228"}}), 0, ""},
	{"an iCVV of 12 digits", card(Card{KeyID: "k", PAN: "411111111111", ICVV: &Expiry{"2812"}}), 0, ""},
	{"no CVK", card(Card{PAN: "4111111111111111", CVV2: &Expiry{"1228"}}), fault.RequestInvalid, "key_id"},
	{"a PAN of 11 digits", card(Card{KeyID: "k", PAN: "41111111111", CVV2: &Expiry{"1228"}}), fault.RequestInvalid, "primary_account_number"},
	{"a PAN of 20 digits", card(Card{KeyID: "k", PAN: "41111111111111111111", CVV2: &Expiry{"1228"}}), fault.RequestInvalid, "primary_account_number"},
	{"a PAN in hex", card(Card{KeyID: "k", PAN: "41111111111111AF", CVV2: &Expiry{"1228"}}), fault.RequestInvalid, "primary_account_number"},
	{"no method", card(Card{KeyID: "k", PAN: "4111111111111111"}), fault.RequestInvalid, "method"},
	{"two methods", card(Card{KeyID: "k", PAN: "4111111111111111", CVV2: &Expiry{"1228"}, ICVV: &Expiry{"1228"}}), fault.RequestInvalid, "method"},
	{"an expiry of 3 digits", card(Card{KeyID: "k", PAN: "4111111111111111", CVV2: &Expiry{"128"}}), fault.RequestInvalid, "card_expiry_date"},
	{"a service code of letters", card(Card{KeyID: "k", PAN: "4111111111111111", CVV: &CVV{"2812", "1O1"}}), fault.RequestInvalid, "service_code"},
	{"a CVV that is a CVV2", card(Card{KeyID: "k", PAN: "4111111111111111", CVV: &CVV{"2812", "000"}}), fault.RequestInvalid, "service_code"},
	{"a CVV that is an iCVV", card(Card{KeyID: "k", PAN: "4111111111111111", CVV: &CVV{"2812", "999"}}), fault.RequestInvalid, "service_code"},
	{"a value", verifyCard("123"), 0, ""},
	{"a value of 4 digits", verifyCard("1234"), fault.RequestInvalid, "validation_data"},
	{"a value in hex", verifyCard("12A"), fault.RequestInvalid, "validation_data"},
}

// TestShape: what is wrong with a shape is told by its field before the policy is asked;
// where it is good, the policy is asked about every key.
func TestShape(t *testing.T) {
	s, access := newService(t)
	for _, c := range shapes {
		access.entry, access.asked = audit.Entry{}, nil
		f := fault.Of(c.run(t.Context(), s))
		switch {
		case c.reason == 0 && (f.Reason != fault.KeyNotFound || len(access.asked) < 2 || access.asked[1] != "k"):
			t.Errorf("%s: %v, %v was asked", c.name, f, access.asked)
		case c.reason != 0 && (f.Reason != c.reason || access.asked != nil || !strings.Contains(f.Detail(), c.field)):
			t.Errorf("%s: %v, %v was asked; want %v about %s", c.name, f, access.asked, c.reason, c.field)
		}
		if strings.Contains(f.Error(), "4111") {
			t.Errorf("%s: %q repeats what was sent", c.name, f.Error())
		}
	}
}

// FuzzShape: whatever a request holds, it is refused for its shape, or reaches the policy.
func FuzzShape(f *testing.F) {
	f.Add("k", int32(2), tdesKSN, int32(0), int32(1), int32(1), []byte("message"), []byte("12345678"), "4111111111111111", "1228")
	f.Fuzz(func(t *testing.T, name string, number int32, serial []byte, working, direction, padding int32, data, iv []byte, pan, expiry string) {
		d := &keyuse.DUKPT{KSN: serial, KeyType: working}
		mac := MACKey{KeyID: name, Algorithm: number, DUKPT: d, Direction: direction, Padding: padding}
		_, err := mac.check(data, func() error { return nil })
		expect := func(err error) {
			if err == nil {
				return
			}
			if r := fault.Of(err).Reason; r != fault.RequestInvalid && r != fault.KSNInvalid {
				t.Errorf("%v", err)
			}
		}
		expect(err)
		key := DataKey{KeyID: name, Mode: number, DUKPT: d, Direction: direction}
		_, _, err = ReEncryptRequest{Incoming: key, Outgoing: key, Data: data, IV: iv}.check()
		expect(err)
		in, err := Card{KeyID: name, PAN: pan, CVV2: &Expiry{expiry}}.input()
		expect(err)
		if err == nil && len(in.PAN)+len(in.Expiry)+len(in.ServiceCode) > 26 {
			t.Errorf("accepted: %q", in)
		}
		var entry audit.Entry
		keyuse.Record(&entry, name, d)
		if strings.ContainsAny(entry.Keys[0].Name, "\x00\n ") {
			t.Errorf("%+v", entry)
		}
	})
}
