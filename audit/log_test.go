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
	// There is room again. The log stays failed all the same.
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	for range 10 {
		if err := l.Append(context.Background(), Entry{Decision: Event}); !errors.Is(err, ErrUnwritable) {
			return fmt.Errorf("append after the limit: %w", err)
		}
	}
	if err := l.Close(); !errors.Is(err, ErrUnwritable) {
		return fmt.Errorf("close: %w", err)
	}
	return nil
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
// acknowledged is there, nothing after the failure is accepted, and the next opening
// mends the end.
func TestFullDiskFailsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	out, err := writerCommand(path, "10000").Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Fields(string(out))
	acknowledged, err := strconv.Atoi(lines[len(lines)-1])
	if err != nil || acknowledged < 5 {
		t.Fatalf("%q: %v", lines, err)
	}
	content := read(t, path)
	if len(content) != 10000 || bytes.Count(content, []byte("\n")) != acknowledged {
		t.Errorf("%d bytes, %d lines, %d acknowledged", len(content), bytes.Count(content, []byte("\n")), acknowledged)
	}
	l := openLog(t, path)
	if l.Head().Seq != uint64(acknowledged)+1 {
		t.Errorf("head %d after %d acknowledged entries and the one about the end", l.Head().Seq, acknowledged)
	}
	add(t, l, sample())
	if _, err := Verify(bytes.NewReader(read(t, path))); err != nil {
		t.Error(err)
	}
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
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
	if _, err := Verify(bytes.NewReader(read(t, path))); err != nil {
		t.Error(err)
	}
}

func TestAppendFromManyGoroutines(t *testing.T) {
	const writers, each = 32, 20
	path := filepath.Join(t.TempDir(), "audit.log")
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
	report, err := Verify(bytes.NewReader(read(t, path)))
	if err != nil || report.Entries != writers*each || report.Head != head {
		t.Fatalf("%+v, %v", report, err)
	}
	last := make(map[string]int) // each goroutine's entries are in its order
	for rec, err := range Records(bytes.NewReader(read(t, path))) {
		if err != nil {
			t.Fatal(err)
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
	path := filepath.Join(t.TempDir(), "audit.log")
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
	report, err := Verify(bytes.NewReader(read(t, path)))
	if err != nil || report.Entries != uint64(written) || written < 40 {
		t.Errorf("%d acknowledged, %d in the log, %v", written, report.Entries, err)
	}
}

// A batch larger than one write may be is written in several.
func TestManyLargeEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
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
	if report, err := Verify(bytes.NewReader(read(t, path))); err != nil || report.Entries != entries {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	l := openLog(t, filepath.Join(t.TempDir(), "audit.log"))
	if err := l.Append(context.Background(), Entry{}); !errors.Is(err, ErrEntry) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Append(ctx, sample()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if l.Head() != (Head{}) || l.Err() != nil {
		t.Errorf("head %+v, %v", l.Head(), l.Err())
	}
	add(t, l, sample())
	if l.Head().Seq != 1 {
		t.Errorf("head %+v", l.Head())
	}
}

// An Append whose caller gave up while it waited does not hold the writer up.
func TestAppendGivenUp(t *testing.T) {
	reached, proceed := make(chan struct{}), make(chan struct{})
	clock := ticking()
	first := true
	l, err := Open(filepath.Join(t.TempDir(), "audit.log"), Options{Clock: func() time.Time {
		if first {
			first = false
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
	if err := l.Close(); err != nil || l.Head().Seq != 2 {
		t.Errorf("head %+v, %v", l.Head(), err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			l, err := Open(filepath.Join(b.TempDir(), "audit.log"), Options{})
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
	e, err := sample().normalize()
	if err != nil {
		b.Fatal(err)
	}
	var log []byte
	var head Head
	clock := ticking()
	for head.Seq < 1000 {
		head.Seq++
		log, head.Hash = appendLine(log, head.Seq, clock(), appendBody(nil, &e), head.Hash)
	}
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		if _, err := Verify(bytes.NewReader(log)); err != nil {
			b.Fatal(err)
		}
	}
}
