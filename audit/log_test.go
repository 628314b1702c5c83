package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary runs itself as a writer of its own, with a limit on the size of its
// files or until it is killed.
const (
	writerPath  = "KEYD_AUDIT_TEST_WRITER"
	writerLimit = "KEYD_AUDIT_TEST_LIMIT"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(writerPath); path != "" {
		if err := writer(path, os.Getenv(writerLimit)); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writer prints the number of every entry that was acknowledged.
func writer(path, limit string) error {
	l, err := Open(path, Options{})
	if err != nil {
		return err
	}
	if limit == "" {
		return appendForever(l)
	}
	n, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGXFSZ) // the write then answers EFBIG
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: old.Max}); err != nil {
		return err
	}
	err = appendForever(l)
	if !errors.Is(err, ErrUnwritable) || !errors.Is(err, unix.EFBIG) || !errors.Is(l.Err(), ErrUnwritable) {
		return fmt.Errorf("append at the limit: %w", err)
	}
	fmt.Println("full")
	for range 10 {
		if err := l.Append(context.Background(), Entry{Decision: Event}); !errors.Is(err, ErrUnwritable) {
			return fmt.Errorf("append after the limit: %w", err)
		}
	}
	// There is room again, and the log goes on by itself.
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	for l.Err() != nil {
		time.Sleep(10 * time.Millisecond)
	}
	for range 3 {
		if err := l.Append(context.Background(), sample()); err != nil {
			return fmt.Errorf("append when there is room: %w", err)
		}
		fmt.Println(l.Head().Seq)
	}
	return l.Close()
}

func appendForever(l *Log) error {
	for {
		if err := l.Append(context.Background(), sample()); err != nil {
			return err
		}
		fmt.Println(l.Head().Seq)
	}
}

func writerCommand(path, limit string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerPath+"="+path, writerLimit+"="+limit)
	cmd.Stderr = os.Stderr
	return cmd
}

// A file that cannot grow stands for a full disk: the write is cut short. Everything
// acknowledged is there, nothing is accepted as long as there is no room, and when there is the
// log goes on behind what was acknowledged.
func TestFullDiskFailsClosedAndIsOvercome(t *testing.T) {
	dir := newDir(t)
	out, err := writerCommand(dir, "10000").Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before, after, ok := strings.Cut(string(out), "full\n")
	lines := strings.Fields(before)
	acknowledged, err := strconv.Atoi(lines[len(lines)-1])
	if err != nil || acknowledged < 5 || !ok {
		t.Fatalf("%q: %v", lines, err)
	}
	// One entry says what happened, and the three that came then follow it.
	if want := fmt.Sprintf("%d\n%d\n%d\n", acknowledged+2, acknowledged+3, acknowledged+4); after != want {
		t.Errorf("afterwards %q, want %q", after, want)
	}
	report := verify(t, dir)
	if report.Head.Seq != uint64(acknowledged)+4 || report.Tree.Size != report.Head.Seq {
		t.Errorf("%+v", report)
	}
	records, err := Tail(dir, 4)
	if err != nil || records[0].Method != "AuditLog/Recover" || !strings.Contains(records[0].Detail, "file too large") || !strings.Contains(records[0].Detail, "the entries of some are not in it") {
		t.Errorf("%+v, %v", records, err)
	}
}

// A disk that is full for good: what was acknowledged is there, and the next opening mends the
// end.
func TestFullDiskAndEnd(t *testing.T) {
	dir := newDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=700"); err != nil {
		// Without the right to mount, a limit on the size of files stands in for the small disk.
		out, err := writerCommand(dir, "20000").Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		verify(t, dir)
		return
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // a test's own
	l := openLog(t, dir)
	head := l.Head()
	var err error
	for err == nil {
		head = l.Head()
		err = l.Append(context.Background(), sample())
	}
	if !errors.Is(err, unix.ENOSPC) || !errors.Is(l.Err(), ErrUnwritable) || l.Head() != head {
		t.Fatalf("%v, head %+v, acknowledged %+v", err, l.Head(), head)
	}
	if err := l.Close(); !errors.Is(err, ErrUnwritable) {
		t.Errorf("close: %v", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_NODEV|unix.MS_NOEXEC, "size=1m"); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	if now := l.Head().Seq; now < head.Seq || now > head.Seq+1 {
		t.Errorf("head %d after %d acknowledged entries and the one about the end", now, head.Seq)
	}
	add(t, l, sample())
	verify(t, dir)
}

// A segment that somebody exchanges or cuts while nothing can be written is not gone on with.
func TestRecoveryLooksAtTheSegment(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 100) },
		"removed": os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".x"), os.WriteFile(path, nil, 0o600))
		},
		"altered": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			info, err := f.Stat()
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), info.Size()-20)
			return errors.Join(err, f.Close())
		},
	} {
		dir := newDir(t)
		l := openLog(t, dir)
		fill(t, l, 3)
		l.writer(func() { l.fail(unix.ENOSPC) })
		if err := spoil(firstSegment(dir)); err != nil {
			t.Fatal(name, err)
		}
		l.writer(l.recover)
		if err := l.Err(); !errors.Is(err, ErrChain) || !errors.Is(err, ErrUnwritable) || !l.isFinal() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// writer does something in the place of the writer, which is ended.
func (l *Log) writer(f func()) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.ended
	f()
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	path := newDir(t)
	cmd := writerCommand(path, "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(lines.Text())
		}
		if acknowledged == 100 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || acknowledged < 100 {
		t.Fatalf("ended by itself after %d entries: %v", acknowledged, err)
	}
	l := openLog(t, path) // its lock went with the process
	if l.Head().Seq < uint64(acknowledged) {
		t.Errorf("head %d, acknowledged %d", l.Head().Seq, acknowledged)
	}
	verify(t, path)
}

func TestAppendFromManyGoroutines(t *testing.T) {
	const writers, each = 32, 20
	path := newDir(t)
	l := openLog(t, path)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := sample()
				e.RequestID = fmt.Sprintf("%d-%d", w, i)
				if err := l.Append(context.Background(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if report := verify(t, path); report.Entries != writers*each+1 || report.Head != head || report.Tree.Size != head.Seq {
		t.Fatalf("%+v", report)
	}
	last := make(map[string]int) // each goroutine's entries are in its order
	for rec, err := range Records(bytes.NewReader(read(t, firstSegment(path)))) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Seq == 1 {
			continue
		}
		w, number, _ := strings.Cut(rec.RequestID, "-")
		if number != strconv.Itoa(last[w]) {
			t.Fatalf("%s of writer %s, want %d", number, w, last[w])
		}
		last[w]++
	}
}

// Close writes what was accepted before it and refuses what comes after.
func TestCloseDrains(t *testing.T) {
	path := newDir(t)
	l := openLog(t, path)
	var wg sync.WaitGroup
	var mu sync.Mutex
	written := 0
	for range 16 {
		wg.Go(func() {
			for {
				err := l.Append(context.Background(), sample())
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				written++
				enough := written == 40
				mu.Unlock()
				if enough {
					wg.Go(func() {
						if err := l.Close(); err != nil {
							t.Error(err)
						}
					})
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if report := verify(t, path); report.Entries != uint64(written)+1 || written < 40 {
		t.Errorf("%d acknowledged, %d in the log", written, report.Entries)
	}
}

// A batch larger than one write may be is written in several.
func TestManyLargeEntries(t *testing.T) {
	path := newDir(t)
	l := openLog(t, path)
	e := sample()
	e.Identity = strings.Repeat("\x01", maxIdentity)
	n, err := e.normalize()
	if err != nil {
		t.Fatal(err)
	}
	body := appendBody(nil, &n)
	const entries = 3 * maxBatch / (6 * maxIdentity)
	waiting := make([]*pending, entries)
	l.mu.Lock() // all of them are there when the writer looks
	for i := range waiting {
		waiting[i] = &pending{body: body, done: make(chan error, 1)}
		l.queue = append(l.queue, waiting[i])
	}
	l.signal()
	l.mu.Unlock()
	for i, p := range waiting {
		if err := <-p.done; err != nil {
			t.Fatal(i, err)
		}
	}
	if report := verify(t, path); report.Entries != entries+1 {
		t.Errorf("%+v", report)
	}
}

func TestAppendRefuses(t *testing.T) {
	l := openLog(t, newDir(t))
	if err := l.Append(context.Background(), Entry{}); !errors.Is(err, ErrEntry) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Append(ctx, sample()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if l.Head().Seq != 1 || l.Err() != nil {
		t.Errorf("head %+v, %v", l.Head(), l.Err())
	}
	add(t, l, sample())
	if l.Head().Seq != 2 {
		t.Errorf("head %+v", l.Head())
	}
}

// An Append whose caller gave up while it waited does not hold the writer up.
func TestAppendGivenUp(t *testing.T) {
	reached, proceed := make(chan struct{}), make(chan struct{})
	clock := ticking()
	looks := 0
	l, err := Open(newDir(t), Options{Clock: func() time.Time {
		if looks++; looks == 3 { // after the entry with which the log begins, and its segment
			close(reached)
			<-proceed
		}
		return clock()
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	given := make(chan error)
	go func() { given <- l.Append(ctx, sample()) }()
	<-reached
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(proceed)
	add(t, l, sample())
	if err := l.Close(); err != nil || l.Head().Seq != 3 {
		t.Errorf("head %+v, %v", l.Head(), err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			l, err := Open(filepath.Join(b.TempDir(), "audit"), Options{})
			if err != nil {
				b.Fatal(err)
			}
			work := make(chan struct{}, goroutines)
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for range work {
						if err := l.Append(context.Background(), sample()); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "audit")
	l, err := Open(dir, Options{Clock: ticking()})
	if err != nil {
		b.Fatal(err)
	}
	for range 1000 {
		if err := l.Append(context.Background(), sample()); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(firstSegment(dir))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	for b.Loop() {
		if _, err := VerifyDir(dir, Trust{}); err != nil {
			b.Fatal(err)
		}
	}
}
