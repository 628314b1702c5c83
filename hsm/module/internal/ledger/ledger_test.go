package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"keyd/fault"
	"keyd/hsm/module/internal/hostfile"
)

func device(n int) (d Device) {
	copy(d[:], fmt.Sprintf("device %d", n))
	return d
}

// entry binds the initial key with that number to a device.
func entry(key, to int) Entry {
	return NewEntry("fingerprint", [8]byte(fmt.Appendf(nil, "%08d", key)), device(to))
}

func made(t testing.TB) (*Ledger, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return Open(int(f.Fd())), path
}

func (l *Ledger) must(t testing.TB, entries ...Entry) {
	t.Helper()
	if err := l.Bind(entries...); err != nil {
		t.Fatal(err)
	}
}

func counts(t testing.TB, l *Ledger, want uint64) {
	t.Helper()
	if n, err := l.Count(); err != nil || n != want {
		t.Errorf("%d entries, %v, want %d", n, err, want)
	}
}

func TestAnInitialKeyBelongsToOneDevice(t *testing.T) {
	l, path := made(t)
	l.must(t, entry(1, 1))
	l.must(t, entry(1, 1)) // whose answer was lost
	l.must(t, entry(2, 2), entry(3, 2), entry(3, 2))
	counts(t, l, 3)
	for name, e := range map[string][]Entry{
		"another device":                  {entry(1, 2)},
		"behind one that is free":         {entry(4, 4), entry(1, 2)},
		"two devices at once":             {entry(5, 5), entry(5, 6)},
		"of what came with others before": {entry(3, 3)},
	} {
		if err := l.Bind(e...); !errors.Is(err, ErrAllotted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	counts(t, l, 3) // all or none
	// Under another BDK it is another key.
	l.must(t, NewEntry("another", [8]byte([]byte("00000001")), device(9)), NewEntry("fingerprint2", [8]byte([]byte("00000001")), device(8)))
	for _, n := range []int{0, maxBatch + 1} {
		if err := l.Bind(make([]Entry, n)...); err == nil {
			t.Errorf("%d entries at once", n)
		}
	}
	if err := Open(-1).Bind(entry(1, 1)); !errors.Is(err, ErrNone) {
		t.Errorf("without a file: %v", err)
	}
	// What comes after has it all.
	again := reopened(t, path)
	counts(t, again, 5)
	if err := again.Bind(entry(2, 1)); !errors.Is(err, ErrAllotted) {
		t.Error(err)
	}
}

// request binds the request with that number to a choice of keys.
func request(number, choice int) Entry {
	return NewRequestEntry(sha256.Sum256(fmt.Appendf(nil, "request %d", number)), sha256.Sum256(fmt.Appendf(nil, "choice %d", choice)))
}

// A request gets one choice of keys, and the keys of another one are not bound with it.
func TestARequestGetsOneChoice(t *testing.T) {
	l, path := made(t)
	l.must(t, request(1, 1), entry(1, 1))
	l.must(t, request(1, 1), entry(1, 1)) // whose answer was lost
	for _, l := range []*Ledger{l, reopened(t, path)} {
		for name, c := range map[string]struct {
			entries []Entry
			want    error
		}{
			"another choice":                         {[]Entry{request(1, 2), entry(2, 1)}, ErrReplayed},
			"another choice, of a key that is taken": {[]Entry{request(1, 2), entry(1, 2)}, ErrReplayed},
			"a key that is taken":                    {[]Entry{request(2, 1), entry(1, 2)}, ErrAllotted},
			"two choices at once":                    {[]Entry{request(3, 1), request(3, 2)}, ErrReplayed},
		} {
			if err := l.Bind(c.entries...); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			if err := l.Look(c.entries...); !errors.Is(err, c.want) {
				t.Errorf("%s: Look: %v", name, err)
			}
		}
		counts(t, l, 2)
	}
	l.must(t, request(2, 2), entry(2, 2)) // which was refused with another key
	// A request and an initial key of the same bytes are two things.
	bytes := [32]byte([]byte("12345678901234567890123456789012"))
	l.must(t, NewRequestEntry(bytes, bytes), NewEntry(string(bytes[:]), [8]byte(bytes[:]), bytes))
	counts(t, l, 6)
	for err, want := range map[error]fault.Reason{ErrReplayed: fault.RequestReplayed, ErrAllotted: fault.InitialKeyAllotted, ErrFull: fault.LedgerUnavailable} {
		if got := fault.Of(Refusal(err)).Reason; got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// reopened is the ledger of another process.
func reopened(t testing.TB, path string) *Ledger {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return Open(int(f.Fd()))
}

// Keys whose first bytes are alike are told apart.
func TestKeysThatLookAlike(t *testing.T) {
	l, path := made(t)
	alike := make([]Entry, 20)
	for i := range alike {
		alike[i].key[keySize-1], alike[i].device = byte(i), device(i)
	}
	l.must(t, alike[:7]...)
	l.must(t, alike[7:]...)
	for _, l := range []*Ledger{l, reopened(t, path)} {
		for i := range alike {
			l.must(t, alike[i])
			other := alike[i]
			other.device = device(i + 1)
			if err := l.Bind(other); !errors.Is(err, ErrAllotted) {
				t.Errorf("%d: %v", i, err)
			}
		}
		counts(t, l, uint64(len(alike)))
	}
}

// The power goes at any byte of a write: what was acknowledged stays, and the rest is there as
// a whole entry or not at all.
func TestLossOfPower(t *testing.T) {
	l, path := made(t)
	l.must(t, entry(1, 1), entry(2, 2))
	before := read(t, path)
	l.must(t, entry(3, 3), entry(4, 4), entry(5, 5))
	after := read(t, path)
	added := after[len(before):]
	for _, headToo := range []bool{false, true} { // nothing waits until it is on the disk
		for cut := range len(added) + 1 {
			for _, gap := range []bool{false, true} { // pages come to the disk in any order
				content := append(bytes.Clone(before), added[:cut]...)
				if gap {
					content = append(bytes.Clone(before), added...)
					clear(content[len(before) : len(before)+cut])
				}
				whole := cut == len(added) && !gap || cut == 0 && gap
				if headToo && !whole {
					continue // it is written when the entries are on the disk
				}
				if headToo {
					copy(content, after[:headSize])
				}
				path := filepath.Join(t.TempDir(), "ledger")
				write(t, path, content)
				l := reopened(t, path)
				n, err := l.Count()
				if err != nil || n < 2 || whole && n != 5 {
					t.Fatalf("cut at %d, gap %t: %d entries, %v", cut, gap, n, err)
				}
				for key := 1; key <= 2; key++ {
					if err := l.Bind(entry(key, 9)); !errors.Is(err, ErrAllotted) {
						t.Fatalf("cut at %d: key %d is allotted again: %v", cut, key, err)
					}
				}
				l.must(t, entry(3, 3), entry(4, 4), entry(5, 5), entry(6, 6)) // as it is asked for again
				counts(t, reopened(t, path), 6)
			}
		}
	}
}

// What a process has written that ended before it was on the disk counts for the next one only
// when it is there: an answer that went by it would be forgotten with the power.
func TestEntriesOfAProcessThatEnded(t *testing.T) {
	l, path := made(t)
	l.must(t, entry(1, 1))
	b := (&Entry{}).append(nil, 0, 0)[:0]
	left := []Entry{entry(2, 2), entry(3, 3)}
	for i := range left {
		b = left[i].append(b, 1+uint64(i), 1)
	}
	if err := hostfile.Put(l.fd, b, offset(1)); err != nil { // and no sync, and no head
		t.Fatal(err)
	}
	before := read(t, path)
	if err := Check(path); err != nil || !bytes.Equal(read(t, path), before) {
		t.Errorf("Check: %v, or it has changed the file", err)
	}
	other := reopened(t, path)
	other.must(t, entry(2, 2))
	if n, _, err := readHead(other.fd); err != nil || n != 3 {
		t.Errorf("the head has %d entries, %v", n, err)
	}
	if err := l.Bind(entry(3, 9)); !errors.Is(err, ErrAllotted) {
		t.Error(err)
	}
	l.must(t, entry(4, 4))
	counts(t, reopened(t, path), 4)
	// From then on a bit that flips in them is damage, and not a torn write.
	content := read(t, path)
	content[headSize+2*Size+20] ^= 1
	damaged(t, "an entry that was confirmed", content)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A bit that has flipped anywhere in what counts, or a file that was cut, is found.
func TestDamageIsFound(t *testing.T) {
	l, path := made(t)
	for i := range 4 {
		l.must(t, entry(2*i, 2*i), entry(2*i+1, 2*i+1))
	}
	good := read(t, path)
	for at := headSize; at < len(good); at++ {
		b := bytes.Clone(good)
		b[at] ^= 1 << (at % 8)
		damaged(t, fmt.Sprintf("bit %d of byte %d", at%8, at), b)
	}
	for size := headSize + 1; size < len(good); size += 37 {
		damaged(t, fmt.Sprintf("cut at %d", size), good[:size])
	}
	damaged(t, "both slots of the head", append(make([]byte, headSize), good[headSize:]...))
	damaged(t, "two entries exchanged", bytes.Join([][]byte{good[:headSize], good[headSize+Size : headSize+2*Size], good[headSize : headSize+Size], good[headSize+2*Size:]}, nil))
	// A process that has seen more does not go on either.
	write(t, path, good[:headSize+Size])
	if err := l.Bind(entry(99, 99)); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut behind its back: %v", err)
	}
}

func damaged(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	write(t, path, content)
	if err := reopened(t, path).Bind(entry(99, 99)); !errors.Is(err, ErrDamaged) {
		t.Errorf("%s: %v", name, err)
	}
	if err := Check(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("%s: Check: %v", name, err)
	}
	if f, err := Create(path); !errors.Is(err, ErrDamaged) || f != nil {
		t.Errorf("%s: Create: %v", name, err)
	}
	if !bytes.Equal(read(t, path), content) {
		t.Errorf("%s: it was changed", name)
	}
}

func TestFilesThatAreTaken(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"empty": {}, "zeros": make([]byte, 20), "zeros as long as a head": make([]byte, headSize), "a part of a head": emptyHead()[:70], "a head": emptyHead(),
	} {
		path := filepath.Join(dir, name)
		write(t, path, content)
		f, err := Create(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		Open(int(f.Fd())).must(t, entry(1, 1))
		if other, err := Create(path); !errors.Is(err, hostfile.ErrInUse) || other != nil {
			t.Errorf("%s, twice: %v", name, err)
		}
		if err := errors.Join(f.Close(), Check(path)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, filepath.Join(dir, "text"), bytes.Repeat([]byte("text"), 100))
	if err := os.Symlink(filepath.Join(dir, "a head"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "open"), emptyHead())
	if err := os.Chmod(filepath.Join(dir, "open"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"text", "link", "open", ".", "none/ledger"} {
		if f, err := Create(filepath.Join(dir, name)); err == nil || f != nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A write that fails leaves nothing, and what comes afterwards works.
func TestAWriteThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read from here on
	l := Open(int(f.Fd()))
	l.must(t, entry(1, 1))
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	// A limit in the midst of the second entry that follows: one is written, and a part.
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: headSize + 2*Size + 10, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	failed := l.Bind(entry(2, 2), entry(3, 3))
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if failed == nil {
		t.Fatal("there was no room, and it says that it was kept")
	}
	counts(t, l, 1)
	l.must(t, entry(2, 9)) // which belongs to nobody
	counts(t, reopened(t, path), 2)
}

// either binds a key or a request.
func either(n, to int) Entry {
	if n%3 == 0 {
		return request(n, to)
	}
	return entry(n, to)
}

// TestProcesses has several processes bind the same keys to devices of their own, and be killed
// while they do: each key belongs to one.
func TestProcesses(t *testing.T) {
	const keys, processes = 300, 3
	if who := os.Getenv("LEDGER_TEST_DEVICE"); who != "" {
		n, err := strconv.Atoi(who)
		if err != nil {
			t.Fatal(err)
		}
		l := Open(3)
		for i := range keys {
			err := l.Bind(either((i*7+n*100)%keys, n))
			if err == nil {
				fmt.Printf("bound %d\n", (i*7+n*100)%keys)
			} else if !errors.Is(err, ErrAllotted) && !errors.Is(err, ErrReplayed) {
				t.Fatal(err)
			}
		}
		return
	}
	path := filepath.Join(t.TempDir(), "ledger")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // each write was synced
	owner := make(map[int]int)
	var mu sync.Mutex
	var wait sync.WaitGroup
	for n := range processes {
		wait.Go(func() {
			for attempt := range 4 {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcesses$")
				cmd.Env = append(os.Environ(), fmt.Sprintf("LEDGER_TEST_DEVICE=%d", n))
				cmd.ExtraFiles = []*os.File{f}
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					t.Error(err)
					return
				}
				var said bytes.Buffer
				limit := int64(1 << 20)
				if attempt < 3 {
					limit = int64(100 + rand.IntN(1500))
				}
				b := make([]byte, 64)
				for limit > 0 {
					m, err := out.Read(b[:min(limit, 64)])
					said.Write(b[:m])
					limit -= int64(m)
					if err != nil {
						break
					}
				}
				_ = cmd.Process.Kill() // it has ended, where all was read
				_ = cmd.Wait()
				mu.Lock()
				for _, line := range bytes.Split(said.Bytes(), []byte("\n")) {
					var key int
					if got, _ := fmt.Sscanf(string(line), "bound %d", &key); got == 1 && bytes.HasSuffix(said.Bytes(), []byte("\n")) {
						if before, there := owner[key]; there && before != n {
							t.Errorf("key %d belongs to %d and %d", key, before, n)
						}
						owner[key] = n
					}
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	l := Open(int(f.Fd()))
	counts(t, l, keys)
	for key, n := range owner {
		if err := l.Bind(either(key, n)); err != nil {
			t.Errorf("key %d was given to %d: %v", key, n, err)
		}
	}
	if len(owner) == 0 {
		t.Error("nothing was seen to be bound")
	}
}

// A ledger answers as a map does, over restarts and losses of power.
func TestLedgerIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "ledger")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // of a test
		path := filepath.Join(dir, "ledger")
		f, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		l, model := Open(int(f.Fd())), map[int]int{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				l = Open(int(f.Fd()))
			case 1: // a batch that was never acknowledged is torn
				n := uint64(len(model))
				b := (&Entry{key: [keySize]byte{1}}).append(nil, n, n)
				b = (&Entry{key: [keySize]byte{2}}).append(b, n+1, n)
				keep := rapid.IntRange(0, Size-1).Draw(t, "torn")
				if _, err := f.WriteAt(b[:keep], offset(n)); err != nil {
					t.Fatal(err)
				}
			default:
				var entries []Entry
				fresh, refused := map[int]int{}, false
				for range rapid.IntRange(1, 4).Draw(t, "entries") {
					key, to := rapid.IntRange(0, 20).Draw(t, "key"), rapid.IntRange(0, 3).Draw(t, "device")
					one := entry(key, to)
					if key > 14 {
						one = request(key, to)
					}
					entries = append(entries, one)
					for _, m := range []map[int]int{model, fresh} {
						if has, there := m[key]; there && has != to {
							refused = true
						}
					}
					if _, there := fresh[key]; !there {
						fresh[key] = to
					}
				}
				err := l.Bind(entries...)
				if refused != (errors.Is(err, ErrAllotted) || errors.Is(err, ErrReplayed)) || !refused && err != nil {
					t.Fatalf("%v, refused is %t", err, refused)
				}
				if !refused {
					for key, to := range fresh {
						model[key] = to
					}
				}
			}
			if n, err := l.Count(); err != nil || n != uint64(len(model)) {
				t.Fatalf("%d entries, %v, want %d", n, err, len(model))
			}
		}
	})
}

// FuzzFile: whatever is in the file, it is refused, or gives what it has and takes more.
func FuzzFile(f *testing.F) {
	l, path := made(f)
	l.must(f, entry(1, 1))
	l.must(f, entry(2, 2), entry(3, 3))
	f.Add(read(f, path))
	f.Add(emptyHead())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "ledger")
		write(t, path, b)
		l := reopened(t, path)
		n, err := l.Count()
		if err != nil {
			return
		}
		if err := l.Bind(entry(77, 77)); err != nil && !errors.Is(err, ErrAllotted) {
			t.Errorf("after %d entries: %v", n, err)
		}
		counts(t, reopened(t, path), l.count)
	})
}

func BenchmarkBind(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			l, _ := made(b)
			n := 0
			for b.Loop() {
				entries := make([]Entry, batch)
				for i := range entries {
					entries[i] = entry(n, n)
					n++
				}
				l.must(b, entries...)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	l, path := made(b)
	const entries = 200_000
	for n := 0; n < entries; n += maxBatch {
		batch := make([]Entry, maxBatch)
		for i := range batch {
			batch[i] = entry(n+i, n)
		}
		l.must(b, batch...)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	for b.Loop() {
		if _, err := Open(int(f.Fd())).Count(); err != nil {
			b.Fatal(err)
		}
	}
}
