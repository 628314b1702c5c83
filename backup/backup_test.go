package backup

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/ksn"
	"keyd/store"
)

// sealer is a module's part, with an identity that is no token's.
type sealer struct{ key *ecdsa.PrivateKey }

func newSealer(t testing.TB) sealer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{key}
}

func (s sealer) SealBackup(_ context.Context, digest [sha256.Size]byte) (hsm.BackupSeal, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return hsm.BackupSeal{}, err
	}
	encoded, err := ceremony.Encode(&ceremony.Backup{
		Digest: fmt.Sprintf("%x", digest), Key: der, Epoch: 7, Document: ceremony.Digest(nil), Generation: 1, Masters: "ABCDEF", Time: 1,
	})
	if err != nil {
		return hsm.BackupSeal{}, err
	}
	signature, err := ceremony.Sign(s.key, ceremony.OfBackup, encoded)
	return hsm.BackupSeal{Signed: hsm.Signed{Document: encoded, Signature: signature}, Code: make([]byte, ceremony.BackupCodeSize)}, err
}

// filled is a database with something of everything.
func filled(t testing.TB) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	at := time.UnixMicro(1_700_000_000_000_001).UTC()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	must(s.Put(ctx,
		store.KeyRecord{Name: "a", Version: 1, State: store.Enabled, Sealed: []byte{1}, CreatedAt: at},
		store.KeyRecord{Name: "a", Version: 2, State: store.Disabled, Sealed: bytes.Repeat([]byte{2}, 200), CreatedAt: at},
		store.KeyRecord{Name: "b", Version: 1, State: store.Enabled, Sealed: []byte{3}, CreatedAt: at}))
	must(s.SetAlias(ctx, "alias", "a", ""))
	must(s.SetTags(ctx, "a", map[string]string{"owner": "cards", "place": "zürich"}))
	must(s.AddUsage(ctx, []store.Usage{{Name: "a", Version: 1, Count: 3, LastUsed: at}}))
	must(s.AddCeremony(ctx, store.CeremonyRecord{
		ID: strings.Repeat("0a", 16), Kind: "load", Subject: "a?version=1", State: store.CeremonyOpen, Papers: []byte("{}"), OpenedAt: at, ExpiresAt: at.Add(time.Hour),
	}))
	terminal := store.TerminalRecord{
		ID: "t-1", Owner: "m-1", Model: "P400 Plus", Serial: "805-1", Site: "zürich", State: store.TerminalRegistered, Revision: 1,
		Certificates: []byte{0x30}, PublicKey: bytes.Repeat([]byte{9}, 32), RegisteredAt: at, ChangedAt: at,
	}
	event := store.TerminalEvent{Kind: "registered", Actor: "spiffe://a/b", At: at}
	must(s.AddTerminal(ctx, terminal, event))
	other := terminal
	other.ID, other.Certificates, other.PublicKey, other.Site = "t-0", nil, nil, ""
	must(s.AddTerminal(ctx, other, event))
	other.State, other.ReplacedBy = store.TerminalReplaced, "t-1"
	must(s.UpdateTerminal(ctx, other, store.TerminalEvent{Kind: "replaced", Detail: "by t-1", At: at}))
	injections(t, s, at)
	voids(t, s, at)
	must(s.AdoptEpoch(ctx, 7, []byte("register")))
	must(s.ProposeEpoch(ctx, "", 8, []byte("next"), store.Change{}))
	must(s.AdvanceEpoch(ctx, 8, nil, []byte("link")))
	must(s.ProposeEpoch(ctx, "", 9, []byte("perhaps"), store.Change{}))
	return s
}

// injections keeps what there is of the keys that terminals get, of every kind.
func injections(t testing.TB, s store.Store, at time.Time) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, digest := context.Background(), bytes.Repeat([]byte{5}, 32)
	pin := store.PINRecord{
		Subject: digest, Kind: "SUPERVISOR", Merchant: "m-1", Name: "dora", Version: 2, State: store.PINActive, Tries: 3, TriesLeft: 3, Record: []byte("sealed"), NotAfter: at.Add(time.Hour),
		Approval: digest, Events: 1, Revision: 1, CreatedAt: at, ChangedAt: at,
	}
	must(s.AddPINRecord(ctx, pin, store.PINEvent{Kind: "enrol-begun", Actor: "spiffe://a/b", Detail: "größer", Request: digest, At: at}))
	pin.Subject, pin.State, pin.TriesLeft, pin.Record, pin.NotAfter = bytes.Repeat([]byte{6}, 32), store.PINResetPending, 0, nil, time.Time{}
	pin.Pending, pin.Code, pin.CodeTriesLeft, pin.CodeExpires = []byte("pending"), []byte("code"), 2, at.Add(time.Hour)
	must(s.AddPINRecord(ctx, pin, store.PINEvent{Kind: "reset-begun", At: at}))
	must(s.SetKeyHost(ctx, store.KeyHost{Name: "host", Key: "host.key", Certificates: []byte{0x30}, ChangedAt: at}))
	must(s.AddKeySet(ctx, store.KeySet{Name: "shop", Version: 1, Content: []byte("{}"), CreatedAt: at}))
	must(s.SetRevocationList(ctx, store.RevocationList{IssuerKey: digest, Issuer: "CN=größer", Number: "1", ThisUpdate: at, NextUpdate: at, Digest: digest, List: []byte{0x30}, StoredAt: at}, nil))
	r := store.TerminalRecord{
		ID: "t-2", Owner: "m-1", Model: "P400", Serial: "805-2", State: store.TerminalRegistered, Revision: 1, Certificates: []byte{0x30}, PublicKey: bytes.Repeat([]byte{8}, 32),
		KeySet: "shop", RegisteredAt: at, ChangedAt: at,
	}
	event := store.TerminalEvent{Kind: "registered", Actor: "spiffe://a/b", At: at}
	must(s.AddTerminal(ctx, r, event))
	for n := range byte(2) {
		id := strings.Repeat(string('a'+rune(n)), 32)
		i, err := s.BeginInjection(ctx, store.Begin{
			Injection: store.Injection{
				ID: id, Terminal: r.ID, Method: "KEY_AGREEMENT", KeySet: "shop", KeySetVersion: 1, Request: digest, Nonce: bytes.Repeat([]byte{n}, 32), Created: at, ConfirmBy: at.Add(time.Hour),
			},
			PublicKey: r.PublicKey, Most: 10, MostAll: 100,
			Wanted: []store.Wanted{{Name: "pin", BDK: "bdk", Range: store.Range{Prefix: []byte{1, 2, 3, 4}, First: 7, Last: 9}}},
		})
		must(err)
		must(s.AnswerInjection(ctx, store.Given{
			Terminal: r.ID, ID: id, Revision: i.Revision, Answer: []byte("answer"), KeyBlocks: []string{"D0", "D1"}, Record: []byte("record"), Master: []byte{1}, ReceiptKey: []byte{2},
			ConfirmBy: i.ConfirmBy, At: at,
		}, store.TerminalEvent{Kind: "keys-sent", At: at}))
		if n == 0 {
			must(s.ConfirmInjection(ctx, r.ID, id, 2, []byte("receipt"), []byte("statement"), at, store.TerminalEvent{Kind: "keys-confirmed", At: at}))
		}
	}
}

// voids keeps one that is authorised and one that is new.
func voids(t testing.TB, s store.Store, at time.Time) {
	t.Helper()
	for n := range byte(2) {
		request, id := bytes.Repeat([]byte{n}, 32), strings.Repeat(string('a'+rune(n)), 32)
		v := store.VoidRecord{
			ID: id, Merchant: "m-1", Terminal: "t-1", Reference: string('a' + rune(n)), Amount: 100, Currency: 156, Fee: 1, State: store.VoidCreated, Version: 1, Content: []byte("{}"),
			Code: bytes.Repeat([]byte{n}, store.VoidCode), Payload: make([]byte, store.VoidPayload), CodeExpires: at, Request: request, Due: at, Created: at, Changed: at,
		}
		if n == 0 {
			v.Slip = make([]byte, store.VoidSlip)
		}
		q := store.VoidQuestion{Request: request, Merchant: v.Merchant, Reference: v.Reference, Since: at}
		if _, _, err := s.AddVoid(context.Background(), q, func(store.Standing) (store.VoidRecord, error) { return v, nil }); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			continue
		}
		if _, err := s.ChangeVoid(context.Background(), id, at, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) {
			v.State, v.Version, v.Token, v.Burnt = store.VoidAuthorized, 2, "token", at
			return v, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// serials accepts key serial numbers, and leaves some of them in the journal.
func serials(t testing.TB, s *store.SQLite, terminals int) {
	t.Helper()
	l, err := ksn.Open(context.Background(), s, ksn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range terminals {
		if _, _, err := l.Accept(context.Background(), []ksn.Use{useOf(t, i, 5)}, []byte("request"), []byte("SECRET ANSWER")); err != nil {
			t.Fatal(err)
		}
	}
}

func useOf(t testing.TB, terminal int, counter uint32) ksn.Use {
	t.Helper()
	raw := make([]byte, dukpt.AESKSNSize)
	raw[7] = byte(terminal)
	k, err := dukpt.ParseInitialKSN(raw)
	if err == nil {
		k, err = k.WithCounter(counter)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ksn.Use{Fingerprint: strings.Repeat("ab", 16), KSN: k, Class: ksn.PINIncoming}
}

var header = Header{Version: "v1", Node: "a", Time: 9, AuditSeq: 3, AuditHash: strings.Repeat("0", 64), Policy: []byte("version: 1\n")}

func made(t testing.TB, s *store.SQLite, by sealer) []byte {
	t.Helper()
	var b bytes.Buffer
	seal, _, err := Write(context.Background(), &b, &header, s, by)
	if err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), seal...)
}

func items(b []byte) (list []Item, r *Reader, err error) {
	if r, err = NewReader(bytes.NewReader(b)); err != nil {
		return nil, nil, err
	}
	for {
		i, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, r, nil
		}
		if err != nil {
			return list, nil, err
		}
		list = append(list, i)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	s, by := filled(t), newSealer(t)
	serials(t, s, 3)
	b := made(t, s, by)
	got, r, err := items(b)
	if err != nil {
		t.Fatal(err)
	}
	var want []Item
	if err := s.Export(t.Context(), func(i store.Item) error {
		switch {
		case i.Proposal != nil:
			return nil
		case i.Row != nil:
			a, err := advances(i.Row)
			want = append(want, Item{Advances: a})
			return err
		}
		want = append(want, Item{Item: i})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d items, want %d", len(got), len(want))
	}
	for i := range got {
		a, err := encode(nil, &got[i])
		b, err2 := encode(nil, &want[i])
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("item %d: %v, want %v (%v, %v)", i, got[i], want[i], err, err2)
		}
	}
	if !reflect.DeepEqual(*r.Header(), header) || r.Trailer().Counts != (Counts{Keys: 3, Aliases: 1, Tags: 2, Usage: 1, Ceremonies: 1, Links: 1, Terminals: 3, Events: 7, Advances: 3, KeyHosts: 1, KeySets: 1, RevocationLists: 1, Injections: 2, InitialKeys: 2, Ranges: 1, TerminalKeys: 3, PINRecords: 2, PINEvents: 2, Voids: 2}) || r.Trailer().Register != 8 {
		t.Errorf("%+v, %+v", r.Header(), r.Trailer())
	}
	if said, key, _ := r.Seal(); said.Epoch != 7 || !key.Equal(by.key.Public()) {
		t.Errorf("%+v", said)
	}
	// Equal databases make equal backups, but for the signature.
	again, before := frames(made(t, s, by)), frames(b)
	if !reflect.DeepEqual(again[:len(again)-1], before[:len(before)-1]) {
		t.Error("another backup of the same database")
	}
	// Answers are no part of it, enciphered or not: their receipts are left out.
	if len(want) == 0 || bytes.Contains(b, []byte("SECRET")) {
		t.Error("an answer is in the backup")
	}
	for _, i := range got {
		if i.Counter != nil && len(i.Counter.Receipt) > 0 {
			t.Error("a receipt is in the backup")
		}
	}
}

// resealed signs anew what was altered: only the code by the master keys tells it then.
func resealed(t testing.TB, b []byte, by sealer) []byte {
	t.Helper()
	seal, err := by.SealBackup(context.Background(), sha256.Sum256(b))
	if err != nil {
		t.Fatal(err)
	}
	b, err = document(bytes.Clone(b), kindSeal, &ceremony.BackupSeal{Signed: ceremony.Signed(seal.Signed), Code: seal.Code})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// frames cuts a backup at its frames.
func frames(b []byte) (list [][]byte) {
	list = append(list, b[:len(magic)])
	for b = b[len(magic):]; len(b) > 0; {
		n := frameHeader + int(uint32(b[1])<<24|uint32(b[2])<<16|uint32(b[3])<<8|uint32(b[4]))
		list, b = append(list, b[:n]), b[n:]
	}
	return list
}

// Whatever is not exactly what was written is refused: every byte altered, every length, every
// frame left out, twice, or in another's place; and, where it is sealed anew, all that is not in
// order.
func TestWhatIsNoBackup(t *testing.T) {
	s, by := filled(t), newSealer(t)
	serials(t, s, 2)
	good := made(t, s, by)
	refused := func(what string, b []byte) {
		t.Helper()
		if _, _, err := items(b); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := items(good); err != nil {
		t.Fatal(err)
	}
	for at := range good {
		b := bytes.Clone(good)
		b[at] ^= 1
		refused(fmt.Sprintf("byte %d", at), b)
		refused(fmt.Sprintf("cut at %d", at), good[:at])
	}
	refused("more", append(bytes.Clone(good), 0))
	parts := frames(good)
	body := parts[:len(parts)-1]
	for i := 1; i < len(parts); i++ {
		without := bytes.Join(append(append([][]byte{}, parts[:i]...), parts[i+1:]...), nil)
		twice := bytes.Join(append(append(append([][]byte{}, parts[:i+1]...), parts[i]), parts[i+1:]...), nil)
		refused(fmt.Sprintf("without frame %d", i), without)
		refused(fmt.Sprintf("frame %d twice", i), twice)
		if i < len(body)-1 {
			other := append([][]byte{}, body...)
			other[i], other[i+1] = other[i+1], other[i]
			refused(fmt.Sprintf("frames %d and %d the other way round", i, i+1), resealed(t, bytes.Join(other, nil), by))
			refused(fmt.Sprintf("without frame %d, sealed", i), resealed(t, bytes.Join(append(append([][]byte{}, body[:i]...), body[i+1:]...), nil), by))
			refused(fmt.Sprintf("frame %d twice, sealed", i), resealed(t, bytes.Join(append(append(append([][]byte{}, body[:i+1]...), body[i]), body[i+1:]...), nil), by))
		}
	}
	// Another's seal.
	other := frames(made(t, filled(t), newSealer(t)))
	refused("another's seal", bytes.Join(append(append([][]byte{}, body...), other[len(other)-1]), nil))
	newer := bytes.Replace(good, []byte("keyd backup 1"), []byte("keyd backup 2"), 1)
	if _, _, err := items(newer); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("another version of the format: %v", err)
	}
	huge := append(bytes.Clone(good[:len(magic)]), byte(kindHeader), 0xff, 0xff, 0xff, 0xff)
	refused("a frame of 4 GB", huge)
}

// A backup is of one moment, whatever is written meanwhile; an error of whoever takes it ends
// it.
func TestWriteEnds(t *testing.T) {
	s, by := filled(t), newSealer(t)
	gone := errors.New("gone")
	for most := range 10 {
		if _, _, err := Write(t.Context(), &failing{left: most, err: gone}, &header, s, by); !errors.Is(err, gone) {
			t.Errorf("after %d writes: %v", most, err)
		}
	}
	empty, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = empty.Close() }()
	if _, _, err := Write(t.Context(), io.Discard, &header, empty, by); !errors.Is(err, ErrNoRegister) {
		t.Errorf("an empty database: %v", err)
	}
}

type failing struct {
	left int
	err  error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return len(b), nil
}

// FuzzReader: whatever comes is a backup, byte for byte, or an error that says so.
func FuzzReader(f *testing.F) {
	s, by := filled(f), newSealer(f)
	serials(f, s, 1)
	good := made(f, s, by)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(magic))
	for _, p := range frames(good) {
		f.Add(append([]byte(magic), p...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, r, err := items(b)
		if err != nil {
			if !errors.Is(err, ErrBackup) {
				t.Fatal(err)
			}
			return
		}
		again, err := document([]byte(magic), kindHeader, r.Header())
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if again, err = encode(again, &list[i]); err != nil {
				t.Fatal(err)
			}
		}
		_, _, seal := r.Seal()
		if again, err = document(again, kindTrailer, r.Trailer()); err == nil {
			again, err = document(again, kindSeal, seal)
		}
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("it is read, and is not what is written: %v", err)
		}
	})
}
