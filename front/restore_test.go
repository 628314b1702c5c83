package front

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyd/backup"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/ksn"
	"keyd/store"
)

// sealer is a module's part, with an identity that is no token's: what a token says of a backup
// is tested where tokens are.
type sealer struct{ key *ecdsa.PrivateKey }

func (s sealer) SealBackup(_ context.Context, digest [sha256.Size]byte) (hsm.BackupSeal, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return hsm.BackupSeal{}, err
	}
	encoded, err := ceremony.Encode(&ceremony.Backup{
		Digest: fmt.Sprintf("%x", digest), Key: der, Epoch: 1, Document: ceremony.Digest(nil), Generation: 1, Masters: "ABCDEF", Time: 1,
	})
	if err != nil {
		return hsm.BackupSeal{}, err
	}
	signature, err := ceremony.Sign(s.key, ceremony.OfBackup, encoded)
	return hsm.BackupSeal{Signed: hsm.Signed{Document: encoded, Signature: signature}, Code: make([]byte, ceremony.BackupCodeSize)}, err
}

// backedUp makes a backup of a database with so many counters of key serial numbers.
func backedUp(t testing.TB, counters int) (path string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	database, err := store.OpenSQLite(ctx, filepath.Join(t.TempDir(), "keyd.db"))
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	roster := ceremony.Roster{Quorum: ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}}
	for _, name := range []string{"alice", "bob"} {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		der, err := x509.MarshalPKIXPublicKey(own.Public())
		must(err)
		roster.Officers = append(roster.Officers, ceremony.Officer{Name: name, Identity: "spiffe://bank.example/" + name, Key: der})
	}
	register, err := ceremony.Encode(&ceremony.Epoch{Version: 1, Generation: 1, Oldest: 1, Roster: roster})
	must(err)
	must(database.AdoptEpoch(ctx, 1, append(register, make([]byte, ceremony.EpochMACSize)...)))
	must(database.Put(ctx, store.KeyRecord{Name: "a", Version: 1, State: store.Enabled, Sealed: sealedKey(t), CreatedAt: time.Now()}))
	chunk := make([]store.Counter, 0, store.MaxFold)
	for i := range counters {
		name := append([]byte{byte(ksn.PINIncoming)}, make([]byte, 24)...)
		binary.BigEndian.PutUint64(name[17:], uint64(i))
		chunk = append(chunk, store.Counter{Sequence: name, Counter: 5, Receipt: []byte{}, AcceptedAt: time.Unix(1, 0)})
		if len(chunk) == cap(chunk) || i == counters-1 {
			must(database.Fold(ctx, chunk...))
			chunk = chunk[:0]
		}
	}
	path = filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(path)
	must(err)
	begin := time.Now()
	seal, _, err := backup.Write(ctx, f, &backup.Header{AuditHash: strings.Repeat("0", 64)}, database, sealer{key})
	must(err)
	if b, ok := t.(*testing.B); ok {
		b.Logf("the backup took %v", time.Since(begin))
	}
	_, err = f.Write(seal)
	must(errors.Join(err, f.Close(), database.Close()))
	return path
}

// sealedKey is a sealed key as far as it can be read without a token.
func sealedKey(t testing.TB) []byte {
	t.Helper()
	b, err := hsm.SealedBody(&hsm.Header{
		Name: "a", Version: 1, Generation: 1, Usage: "B0", Algorithm: "T", Length: 16, Mode: "X", Exportability: "N", CheckValue: "08D7B4",
		Fingerprint: strings.Repeat("00", 16), Custody: hsm.CustodyModule, KSNCheck: hsm.KSNMonotonic, Direction: hsm.DirectionIncoming,
	}, [][]byte{make([]byte, 24)})
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, hsm.MACSize)...)
}

func restoring(t testing.TB, path string) *Restoring {
	t.Helper()
	found, err := look(opened(t, path))
	if err != nil {
		t.Fatal(err)
	}
	o := &Restoring{Digest: found.Digest, Counters: CountersExhausted}
	o.State = t.TempDir()
	return o
}

func opened(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// outcome says whether a database is restored, all of it, or is empty.
func outcome(t testing.TB, state string, counters int) (restored bool) {
	t.Helper()
	database, err := store.OpenSQLite(t.Context(), filepath.Join(state, "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = database.Close() }()
	if restored, err = database.Restored(t.Context()); err != nil {
		t.Fatal(err)
	}
	items := 0
	if err := database.Export(t.Context(), func(i store.Item) error {
		items++
		if i.Counter != nil && i.Counter.Counter != ksn.Exhausted {
			t.Errorf("a counter of %d", i.Counter.Counter)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := map[bool]int{false: 0, true: counters + 2}[restored]; items != want {
		t.Errorf("%d items, want %d (restored: %t)", items, want, restored)
	}
	return restored
}

// A process that restores is killed at any moment, as by a loss of power: what it leaves is an
// empty database or a restored one, and the next attempt goes through.
func TestRestoreIsKilled(t *testing.T) {
	const counters = 3000
	if state := os.Getenv("KEYD_TEST_RESTORE"); state != "" { // the process that is killed
		o := restoring(t, os.Getenv("KEYD_TEST_BACKUP"))
		o.State = state
		fmt.Println("begins")
		if _, err := restore(t.Context(), o, opened(t, os.Getenv("KEYD_TEST_BACKUP"))); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := backedUp(t, counters)
	killed := 0
	for round := range 12 {
		state := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRestoreIsKilled$")
		cmd.Env = append(os.Environ(), "KEYD_TEST_RESTORE="+state, "KEYD_TEST_BACKUP="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("begins"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(round) * 15 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, or done
		if outcome(t, state, counters) {
			continue
		}
		killed++
		o := restoring(t, path)
		o.State = state
		if _, err := restore(t.Context(), o, opened(t, path)); err != nil {
			t.Errorf("round %d: the next attempt: %v", round, err)
		}
		if !outcome(t, state, counters) {
			t.Errorf("round %d: not restored", round)
		}
	}
	if killed == 0 {
		t.Error("no attempt was killed before its end")
	}
}

// What changes between the first reading and the second is refused, and nothing is written; a
// database that has something is not written over.
func TestRestoreRefuses(t *testing.T) {
	path := backedUp(t, 10)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(backedUp(t, 10))
	if err != nil {
		t.Fatal(err)
	}
	o := restoring(t, path)
	if _, err := restore(t.Context(), o, &changing{ReadSeeker: bytes.NewReader(b), then: bytes.NewReader(other)}); !errors.Is(err, errChanged) {
		t.Errorf("another backup the second time: %v", err)
	}
	if outcome(t, o.State, 10) {
		t.Error("it was restored")
	}
	for n := 0; n < len(b); n++ {
		if _, err := restore(t.Context(), o, &changing{ReadSeeker: bytes.NewReader(b), then: bytes.NewReader(b[:n])}); err == nil {
			t.Fatalf("cut at %d the second time: restored", n)
		}
		if n%97 == 0 && outcome(t, o.State, 10) {
			t.Fatalf("cut at %d: it was restored", n)
		}
		if n > 600 && n < len(b)-600 { // the items in between are alike
			n += 50
		}
	}
	o.Counters = "none"
	if _, err := restore(t.Context(), o, bytes.NewReader(b)); err == nil {
		t.Error("no way for counters to begin")
	}
	o.Counters = CountersExhausted
	if _, err := restore(t.Context(), o, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t.Context(), o, bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("over a database that has something: %v", err)
	}
	if !outcome(t, o.State, 10) {
		t.Error("it was not restored")
	}
}

// changing is another file when it is read again.
type changing struct {
	io.ReadSeeker
	then io.ReadSeeker
	read bool
}

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	if c.read {
		c.ReadSeeker = c.then
	}
	c.read = true
	return c.ReadSeeker.Seek(offset, whence)
}

// BenchmarkMillionCounters backs up and restores a database with a million counters.
func BenchmarkMillionCounters(b *testing.B) {
	path := backedUp(b, 1_000_000)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("it has %d bytes", info.Size())
	for b.Loop() {
		o := restoring(b, path)
		if _, err := restore(b.Context(), o, opened(b, path)); err != nil {
			b.Fatal(err)
		}
	}
}
