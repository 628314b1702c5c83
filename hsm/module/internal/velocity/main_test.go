package velocity

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs itself again as another process of the same table, which it
// gets as its first descriptor after standard error.
const (
	roleVariable = "KEYD_VELOCITY_TEST_ROLE"
	pathVariable = "KEYD_VELOCITY_TEST_PATH"

	tableFD = 3
)

var roles = map[string]func() error{
	"count few":  func() error { return countForever(few, fewLimits) },
	"count many": func() error { return countForever(many, manyLimits) },
	"redeem":     redeemWhenTold,
	"hammer":     hammer,
	"full disk":  createOnFullDisk,
}

func TestMain(m *testing.M) {
	name := os.Getenv(roleVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := roles[name](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// again returns a command that runs this binary in a role.
func again(t testing.TB, role string, file *os.File) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = t.Output()
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	return cmd
}

// openReal opens the table with the machine's clock.
func openReal(fd int, l Limits) (*Table, error) {
	clock, err := SystemClock()
	if err != nil {
		return nil, err
	}
	return Open(fd, testKey, bootID(1), l, clock)
}

// Subjects that several processes count: a few at full speed, or so many that they take
// each other's places all the time.
const (
	few  = 4
	many = 4 * minEntries
)

var (
	fewLimits  = Limits{Verification: Limit{Hour: 20_000, Day: 40_000}}
	manyLimits = Limits{Verification: Limit{Minute: 3, Hour: 3, Day: 3}}
)

// countForever counts subjects and writes the number of each that was allowed, in two
// bytes that arrive whole or not at all.
func countForever(subjects int, l Limits) error {
	table, err := openReal(tableFD, l)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	for g := range 2 {
		group.Go(func() {
			random := uint32(os.Getpid()*2 + g)
			for {
				random = random*1664525 + 1013904223
				n := int(random>>8) % subjects
				if table.Count(Verification, numbered(n)) {
					if _, err := os.Stdout.Write(binary.BigEndian.AppendUint16(nil, uint16(n))); err != nil {
						os.Exit(1)
					}
				}
			}
		})
	}
	group.Wait()
	return nil
}

// redeemWhenTold redeems, for every line with the number of a subject, from 16
// goroutines at once, and answers with how many of them succeeded.
func redeemWhenTold() error {
	table, err := openReal(tableFD, manyLimits)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		fmt.Println(redeem16(table, n))
	}
	return errors.Join(lines.Err(), table.Close())
}

func redeem16(table *Table, n int) int64 {
	var won atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if table.Redeem(Verification, numbered(n)) {
				won.Add(1)
			}
		})
	}
	group.Wait()
	return won.Load()
}

// hammer counts a hot subject until standard input ends.
func hammer() error {
	table, err := openReal(tableFD, Limits{Verification: Limit{Minute: MaxLimit}})
	if err != nil {
		return err
	}
	var done atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		done.Store(true)
	}()
	fmt.Println("ready")
	for !done.Load() {
		table.Count(Verification, numbered(0))
	}
	return table.Close()
}

// createOnFullDisk tries to create a file where there is no room: on a small file
// system, or where none can be mounted under a limit of this process.
func createOnFullDisk() error {
	dir := os.Getenv(pathVariable)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=700"); err == nil {
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	} else if err := syscall.Setrlimit(unix.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		return err
	}
	f, err := Create(dir+"/velocity", minEntries)
	if err == nil {
		return errors.Join(errors.New("the file was created"), f.Close())
	}
	fmt.Println(err)
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%v is left", left)
	}
	return nil
}
