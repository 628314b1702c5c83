package keys

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyd/hsm"
	"keyd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(t testing.TB) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// seal makes a sealed key that parses. Its MAC is noise, which only a module sees.
func seal(t testing.TB, name string, version uint32, change ...func(*hsm.Header)) []byte {
	t.Helper()
	h := &hsm.Header{
		Name: name, Version: version, Generation: 1, Usage: "P0", Algorithm: "T", Length: 16, Mode: "B", Exportability: "N",
		CheckValue: "08D7B4", Fingerprint: "00", Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth, Formats: []hsm.Format{0, 3},
	}
	for _, c := range change {
		c(h)
	}
	noise := make([]byte, 24+hsm.MACSize)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	body, err := hsm.SealedBody(h, [][]byte{noise[:24]})
	if err != nil {
		t.Fatal(err)
	}
	return append(body, noise[24:]...)
}

func record(t testing.TB, name string, version uint32, change ...func(*hsm.Header)) store.KeyRecord {
	t.Helper()
	return store.KeyRecord{Name: name, Version: version, State: store.Enabled, Sealed: seal(t, name, version, change...), CreatedAt: time.Now()}
}

func put(t testing.TB, s store.Keys, records ...store.KeyRecord) {
	t.Helper()
	if err := s.Put(context.Background(), records...); err != nil {
		t.Fatal(err)
	}
}

// many puts n keys "key.000000" and so on into a store.
func many(t testing.TB, s store.Keys, n int) {
	t.Helper()
	var batch []store.KeyRecord
	for i := range n {
		batch = append(batch, record(t, numbered(i), 1))
		if len(batch) == 5000 || i == n-1 {
			put(t, s, batch...)
			batch = batch[:0]
		}
	}
}

func numbered(i int) string { return fmt.Sprintf("key.%06d", i) }
