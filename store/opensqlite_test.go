package store_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"keyd/store"
	"keyd/store/storetest"
)

func TestFilesArePrivate(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "keyd.db")
	s := open(t, path)
	put(t, s, storetest.Record("zpk", 1))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		mode(t, path+suffix, 0o600)
	}
}

func TestRefusedFiles(t *testing.T) {
	random := make([]byte, 3*4096)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, path string) // of a sound database
		want  error
	}{
		{"text", overwrite([]byte(strings.Repeat("not a database\n", 1000))), store.ErrNotDatabase},
		{"one byte", overwrite([]byte{0}), store.ErrNotDatabase},
		{"random", overwrite(random), store.ErrNotDatabase},
		{"damaged magic", patch(0, []byte("SQLITE")), store.ErrNotDatabase},
		{"another program's", execute("PRAGMA application_id = 252006673"), store.ErrNotDatabase},
		{"a program's without a mark", execute("PRAGMA application_id = 0"), store.ErrNotDatabase},
		{"damaged table", patch(4096, random), store.ErrCorrupt},
		{"damaged last page", patch(-4096, random[:4096]), store.ErrCorrupt},
		{"half of the file", shorten(2), store.ErrCorrupt},
		{"only the header", shorten(1 << 20), store.ErrNotDatabase},
		{"newer schema", execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)"), store.ErrNewer},
		{"readable by the group", chmod(0o640), store.ErrInsecure},
		{"writable by others", chmod(0o602), store.ErrInsecure},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := sound(t)
			test.spoil(t, path)
			before := content(t, path)
			for range 2 { // the second try is no better
				s, err := store.OpenSQLite(t.Context(), path)
				if !errors.Is(err, test.want) || s != nil {
					t.Fatalf("OpenSQLite = %v, %v, want %v", s, err, test.want)
				}
				if !strings.Contains(err.Error(), path) {
					t.Errorf("the error does not name the file: %v", err)
				}
			}
			if !bytes.Equal(content(t, path), before) {
				t.Error("the refused file was changed")
			}
		})
	}
}

func TestRefusedPaths(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		dir:                                    store.ErrNotDatabase,
		fifo:                                   store.ErrNotDatabase,
		link:                                   fs.ErrNotExist,
		filepath.Join(dir, "missing", "k.db"):  fs.ErrNotExist,
		filepath.Join(dir, "nul\x00", "k.db"):  store.ErrFailed,
		filepath.Join(fifo, "k.db"):            store.ErrFailed,
		filepath.Join(dir, "missing/", "x.db"): store.ErrFailed,
	} {
		if s, err := store.OpenSQLite(t.Context(), path); !errors.Is(err, want) || s != nil {
			t.Errorf("OpenSQLite(%q) = %v, %v, want %v", path, s, err, want)
		}
	}
}

func TestEndedContextOpensNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := store.OpenSQLite(ctx, filepath.Join(t.TempDir(), "keyd.db"))
	if !errors.Is(err, context.Canceled) || s != nil {
		t.Errorf("OpenSQLite = %v, %v, want context.Canceled", s, err)
	}
}

// A file that was created, but not filled before a crash, is opened like a new one.
func TestEmptyFileBecomesADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, path), storetest.Record("zpk", 1))
}

// What is not allowed in the file can have come there past keyd.
func TestForgedRowsAreNotServed(t *testing.T) {
	for name, value := range map[string]string{
		"state":          "'zpk', 1, 'BROKEN', x'00', 0",
		"version 0":      "'zpk', 0, 'ENABLED', x'00', 0",
		"large version":  "'zpk', 4294967296, 'ENABLED', x'00', 0",
		"text as number": "'zpk', 'canary', 'ENABLED', x'00', 0",
		"null":           "'zpk', 1, 'ENABLED', NULL, 0",
		"empty":          "'zpk', 1, 'ENABLED', x'', 0",
		"text as bytes":  "'zpk', 1, 'ENABLED', 'canary', 0",
		"long":           "'zpk', 1, 'ENABLED', zeroblob(65537), 0",
		"far future":     "'zpk', 1, 'ENABLED', x'00', 9223372036854775807",
		"text as time":   "'zpk', 1, 'ENABLED', x'00', 'canary'",
	} {
		t.Run(name, func(t *testing.T) {
			path := sound(t)
			execute("DROP TABLE keys; CREATE TABLE keys (name, version, state, sealed, created_at); INSERT INTO keys VALUES ("+value+")")(t, path)
			s := open(t, path)
			r, err := s.Get(t.Context(), "zpk")
			if !errors.Is(err, store.ErrCorrupt) || r.Sealed != nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("Get = %v, %v, want ErrCorrupt without the value", r, err)
			}
			l, err := s.List(t.Context(), "", 10)
			if !errors.Is(err, store.ErrCorrupt) || l != nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("List = %v, %v, want ErrCorrupt without the value", l, err)
			}
		})
	}
}

func TestForgedCountersAreNotServed(t *testing.T) {
	for name, statement := range map[string]string{
		"counter as text":  "INSERT INTO counters VALUES (x'01', 'canary', x'', 0)",
		"negative counter": "INSERT INTO counters VALUES (x'01', -1, x'', 0)",
		"large counter":    "INSERT INTO counters VALUES (x'01', 4294967296, x'', 0)",
		"no receipt":       "INSERT INTO counters VALUES (x'01', 1, NULL, 0)",
		"long receipt":     "INSERT INTO counters VALUES (x'01', 1, zeroblob(257), 0)",
		"text as receipt":  "INSERT INTO counters VALUES (x'01', 1, 'canary', 0)",
		"far future":       "INSERT INTO counters VALUES (x'01', 1, x'', 9223372036854775807)",
		"time as text":     "INSERT INTO counters VALUES (x'01', 1, x'', 'canary')",
		"row 0":            "INSERT INTO counter_journal VALUES (0, x'01')",
		"row as text":      "INSERT INTO counter_journal VALUES ('canary', x'01')",
		"empty batch":      "INSERT INTO counter_journal VALUES (1, x'')",
		"text as batch":    "INSERT INTO counter_journal VALUES (1, 'canary')",
		"long batch":       "INSERT INTO counter_journal VALUES (1, zeroblob(1048577))",
		"key 0":            "INSERT INTO receipt_keys VALUES (0, zeroblob(32), 0)",
		"short key":        "INSERT INTO receipt_keys VALUES (1, zeroblob(31), 0)",
		"text as key":      "INSERT INTO receipt_keys VALUES (1, 'canarycanarycanarycanarycanary32', 0)",
		"key without time": "INSERT INTO receipt_keys VALUES (1, zeroblob(32), NULL)",
	} {
		t.Run(name, func(t *testing.T) {
			path := sound(t)
			execute("DROP TABLE counters; CREATE TABLE counters (sequence PRIMARY KEY, counter, receipt, accepted_at);"+
				"DROP TABLE counter_journal; CREATE TABLE counter_journal (number, batch);"+
				"DROP TABLE receipt_keys; CREATE TABLE receipt_keys (id, key, created_at);"+statement)(t, path)
			s := open(t, path)
			c, counterErr := s.Counter(t.Context(), []byte{1})
			keys, keysErr := s.ReceiptKeys(t.Context())
			journalErr := s.ReadJournal(t.Context(), func(uint64, []byte) error { t.Error("a forged row was read"); return nil })
			if errors.Is(counterErr, store.ErrNotFound) {
				counterErr = nil
			}
			err := errors.Join(counterErr, keysErr, journalErr)
			if !errors.Is(err, store.ErrCorrupt) || strings.Contains(err.Error(), "canary") || c.Sequence != nil || keys != nil {
				t.Errorf("%v, want ErrCorrupt without the value", err)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	for _, test := range []struct {
		name         string
		folder, file os.FileMode
		exists       bool
	}{
		{"file", 0o700, 0o400, true},
		{"folder", 0o500, 0o600, true},
		{"folder without the file", 0o500, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Not t.TempDir: another user has to get there.
			dir, err := os.MkdirTemp("", "keyd-store-")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "keyd.db")
			t.Cleanup(func() {
				if err := errors.Join(os.Chmod(dir, 0o700), os.RemoveAll(dir)); err != nil {
					t.Error(err)
				}
			})
			steps := []error{}
			if test.exists {
				closeStore(t, open(t, path))
				steps = append(steps, os.Chmod(path, test.file))
			}
			if os.Geteuid() == 0 {
				if test.exists {
					steps = append(steps, os.Chown(path, nobody, nobody))
				}
				steps = append(steps, os.Chown(dir, nobody, nobody))
			}
			if err := errors.Join(append(steps, os.Chmod(dir, test.folder))...); err != nil {
				t.Fatal(err)
			}
			out, err := again(t, roleUnprivileged, path).CombinedOutput()
			if err == nil || !strings.Contains(string(out), store.ErrReadOnly.Error()) {
				t.Errorf("the other process: %v, %s, want ErrReadOnly", err, out)
			}
		})
	}
}

// A writer is killed again and again: what it had acknowledged is there, and no
// transaction in part.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	for round := range 6 {
		acknowledged := killAfter(t, roleWriter, path, 1+7*round)
		s := open(t, path)
		head, err := s.Get(t.Context(), "head")
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		last, err := strconv.Atoi(string(head.Sealed))
		if err != nil || last < acknowledged {
			t.Fatalf("round %d: the last batch is %q, acknowledged was %d", round, head.Sealed, acknowledged)
		}
		var want []string
		for n := range last + 1 {
			for _, r := range batch(n)[1:] {
				want = append(want, r.Name)
			}
		}
		var got []string
		for after := "part-"; ; {
			page, err := s.List(t.Context(), after, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				got = append(got, r.Name)
			}
			if len(page) < 100 {
				break
			}
			after = got[len(got)-1]
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d: %d parts are kept, want %d, up to batch %d", round, len(got), len(want), last)
		}
		closeStore(t, s)
	}
}

// killAfter kills a process in a role with SIGKILL when it has acknowledged n steps, and
// returns the last number that it printed.
func killAfter(t *testing.T, role, path string, n int) int {
	t.Helper()
	cmd := again(t, role, path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last, lines := -1, bufio.NewReader(out)
	for i := 1; ; i++ {
		line, err := lines.ReadString('\n') // a line without its end was not printed
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if last, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			t.Fatal(err)
		}
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 || last < 0 {
		t.Fatalf("the writer: %v, %s; last batch %d; want it killed", err, &stderr, last)
	}
	return last
}

// FuzzOpenSQLite patches a sound database. Whatever comes of it: a clear error or an
// answer, and no record outside the limits.
func FuzzOpenSQLite(f *testing.F) {
	path := filepath.Join(f.TempDir(), "sound.db")
	s := open(f, path)
	put(f, s, storetest.Record("zpk", 1), storetest.Record("bdk", 1))
	closeStore(f, s)
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint(0), []byte{})
	f.Add(uint(18), []byte{1, 1})           // rollback journal instead of the log
	f.Add(uint(44), []byte{0, 0, 0, 9})     // schema format
	f.Add(uint(68), []byte("keyd"))         // application
	f.Add(uint(100), []byte{0x05})          // kind of the first page
	f.Add(uint(len(seed)), []byte("extra")) // after the last page
	f.Fuzz(func(t *testing.T, offset uint, change []byte) {
		b := append(bytes.Clone(seed), make([]byte, len(change))...)
		copy(b[min(offset, uint(len(seed))):], change)
		path := filepath.Join(t.TempDir(), "keyd.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenSQLite(t.Context(), path)
		if err != nil {
			if s != nil {
				t.Fatal("a store and an error")
			}
			return
		}
		if r, err := s.Get(t.Context(), "zpk"); err == nil && r.Validate() != nil {
			t.Errorf("Get = %v", r)
		}
		l, err := s.List(t.Context(), "", 10)
		if err != nil && l != nil {
			t.Errorf("List = %v and %v", l, err)
		}
		for _, r := range l {
			if r.Validate() != nil {
				t.Errorf("List has %v", r)
			}
		}
		if err := s.Close(); err != nil {
			t.Log(err)
		}
	})
}

// sound makes a database with enough keys for several pages and closes it.
func sound(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyd.db")
	s := open(t, path)
	records := make([]store.KeyRecord, 200)
	for i := range records {
		records[i] = storetest.Record(fmt.Sprintf("key-%d", i), 1)
		records[i].Sealed = bytes.Repeat([]byte{byte(i)}, 400)
	}
	put(t, s, records...)
	closeStore(t, s)
	return path
}

func overwrite(b []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// patch writes b at an offset, from the end where it is negative.
func patch(offset int, b []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		c := content(t, path)
		at := offset
		if at < 0 {
			at += len(c)
		}
		copy(c[at:], b)
		overwrite(c)(t, path)
	}
}

// shorten cuts the file to a part, but leaves SQLite's header.
func shorten(part int) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		c := content(t, path)
		overwrite(c[:max(100, len(c)/part)])(t, path)
	}
}

// execute changes the database past keyd.
func execute(statement string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.ExecContext(t.Context(), statement)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func chmod(mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), want)
	}
}
