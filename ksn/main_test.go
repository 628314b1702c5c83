package ksn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"keyd/fault"
	"keyd/store"
)

// The test binary runs itself again as a process that is killed.
const (
	pathVariable  = "KEYD_KSN_TEST_PATH"
	roundVariable = "KEYD_KSN_TEST_ROUND"
)

func TestMain(m *testing.M) {
	path := os.Getenv(pathVariable)
	if path == "" {
		goleak.VerifyTestMain(m)
		return
	}
	round, err := strconv.Atoi(os.Getenv(roundVariable))
	if err == nil {
		err = acceptForever(path, round)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

const (
	killRounds    = 6
	killWorkers   = 16
	killSequences = 5 // of each worker
)

// killLimits make folds happen all the time.
var killLimits = limits{
	foldSequences: 20, foldRows: 16, foldBytes: 1 << 20, maxSequences: 10_000, maxRows: 10_000, maxBytes: 10 << 20,
	foldChunk: 8, trimChunk: 8, foldRetry: defaultLimits.foldRetry, gather: defaultLimits.gather,
}

func killRequest(worker, number, round int) (Use, []byte, []byte) {
	u := benchUse(worker*killSequences+number%killSequences, validCounters(number/killSequences + 1)[number/killSequences])
	return u, fmt.Appendf(nil, "request %d %d", worker, number), fmt.Appendf(nil, "answer %d %d round %d", worker, number, round)
}

// acceptForever is the process that is killed. Each worker goes on where its standard
// input says, and prints every use after it was accepted.
func acceptForever(path string, round int) error {
	ctx := context.Background()
	s, err := store.OpenSQLite(ctx, path)
	if err != nil {
		return err
	}
	l, err := Open(ctx, s, Options{limits: killLimits})
	if err != nil {
		return err
	}
	starts := make([]int, killWorkers)
	in := bufio.NewReader(os.Stdin)
	for i := range starts {
		if _, err := fmt.Fscan(in, &starts[i]); err != nil {
			return err
		}
	}
	failed := make(chan error, killWorkers)
	for w, n := range starts {
		go func() {
			for ; ; n++ {
				u, request, answer := killRequest(w, n, round)
				got, _, err := l.Accept(ctx, []Use{u}, request, answer)
				if err == nil && !bytes.Equal(got, answer) {
					err = fmt.Errorf("worker %d number %d: the answer is %q", w, n, got)
				}
				if err != nil {
					failed <- err
					return
				}
				fmt.Printf("%d %d\n", w, n) // one write, not buffered
			}
		}()
	}
	return <-failed
}

// What was acknowledged before kill -9 stays accepted: the identical request gets its
// answer, any other is refused.
func TestKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	next := make([]int, killWorkers)           // the first number that nobody sent
	answers := map[[2]int]string{}             // of acknowledged requests
	replay := fault.New(fault.KSNReplayed, "") // for errors.Is
	random := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	last := map[sequence]int{} // the last acknowledged number of a sequence
	for round := range killRounds {
		acknowledged := killAfter(t, path, round, next, 1+random.IntN(2000))
		for _, a := range acknowledged {
			u, _, answer := killRequest(a[0], a[1], round)
			answers[a] = string(answer)
			q, err := u.sequence()
			if err != nil {
				t.Fatal(err)
			}
			last[q] = max(last[q], a[1])
			next[a[0]] = max(next[a[0]], a[1]+1)
		}
		s := openStore(t, path)
		l := openLedger(t, s, Options{limits: killLimits})
		for a, answer := range answers {
			u, request, _ := killRequest(a[0], a[1], round)
			if got, _, err := l.Accept(t.Context(), []Use{u}, []byte("another request"), []byte("x")); !errors.Is(err, replay) {
				t.Fatalf("round %d: worker %d number %d was acknowledged, and another request for it got %q, %v", round, a[0], a[1], got, err)
			}
			got, _, err := l.Accept(t.Context(), []Use{u}, request, []byte("x"))
			if err == nil && string(got) != answer {
				t.Fatalf("round %d: worker %d number %d: the retry got %q, first it was %q", round, a[0], a[1], got, answer)
			}
			q, e := u.sequence()
			if e != nil {
				t.Fatal(e)
			}
			// Of each worker one request was under way: it may have been accepted,
			// and then this one of its sequence is no longer the last.
			superseded := last[q] != a[1] || a[1]+killSequences == next[a[0]]
			if err != nil && !(superseded && errors.Is(err, replay)) {
				t.Fatalf("round %d: worker %d number %d: the retry got %v", round, a[0], a[1], err)
			}
		}
		// What was not acknowledged may have been committed: the retry of the worker
		// settles it.
		for w := range next {
			u, request, _ := killRequest(w, next[w], round)
			answer := fmt.Sprintf("settled %d", round)
			got, _, err := l.Accept(t.Context(), []Use{u}, request, []byte(answer))
			if err != nil || string(got) != answer && !strings.HasPrefix(string(got), fmt.Sprintf("answer %d %d ", w, next[w])) {
				t.Fatalf("round %d: worker %d number %d: settling got %q, %v", round, w, next[w], got, err)
			}
			answers[[2]int{w, next[w]}] = string(got)
			q, err := u.sequence()
			if err != nil {
				t.Fatal(err)
			}
			last[q] = next[w]
			next[w]++
		}
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if len(answers) < killRounds*killWorkers {
		t.Errorf("only %d requests were acknowledged", len(answers))
	}
}

// killAfter kills the process after n acknowledgements, and returns all that it gave.
func killAfter(t *testing.T, path string, round int, starts []int, n int) (acknowledged [][2]int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), pathVariable+"="+path, fmt.Sprintf("%s=%d", roundVariable, round))
	cmd.Stdin = strings.NewReader(strings.Trim(fmt.Sprint(starts), "[]") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var a [2]int
		if _, err := fmt.Sscan(lines.Text(), &a[0], &a[1]); err != nil {
			t.Fatalf("the process printed %q", lines.Text())
		}
		if acknowledged = append(acknowledged, a); len(acknowledged) >= n {
			once.Do(func() { err = cmd.Process.Kill() })
		}
	}
	if e := errors.Join(err, lines.Err()); e != nil {
		t.Fatal(e)
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < n {
		t.Fatalf("the process ended with %v after %d acknowledgements: %s", err, len(acknowledged), &stderr)
	}
	return acknowledged
}
