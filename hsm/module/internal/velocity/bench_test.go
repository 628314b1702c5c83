package velocity

import (
	"bufio"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
)

func benchmarkTable(b *testing.B, entries int, l Limits) (*Table, *os.File) {
	b.Helper()
	f, err := Create(newPath(b), entries)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	table, err := openReal(int(f.Fd()), l)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeTable(b, table) })
	b.ReportAllocs()
	return table, f
}

var unreached = Limits{Verification: Limit{Minute: MaxLimit}}

func BenchmarkHotSubject(b *testing.B) {
	table, _ := benchmarkTable(b, 1<<14, unreached)
	var hot [16]byte
	for n := uint64(0); b.Loop(); n++ {
		binary.BigEndian.PutUint64(hot[:], n/MaxLimit) // another one when the limit is reached
		if !table.Count(Verification, hot[:]) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkRefused(b *testing.B) {
	table, _ := benchmarkTable(b, minEntries, threeFiveEight)
	hot := numbered(0)
	for b.Loop() {
		table.Count(Verification, hot)
	}
}

// BenchmarkMillionSubjects counts a million subjects in turn at random.
func BenchmarkMillionSubjects(b *testing.B) {
	table, _ := benchmarkTable(b, 1<<22, unreached)
	var subject [16]byte
	count := func(n uint32) {
		binary.BigEndian.PutUint32(subject[:], n)
		if !table.Count(Verification, subject[:]) {
			b.Fatal("refused")
		}
	}
	for n := range uint32(1_000_000) {
		count(n)
	}
	for b.Loop() {
		count(rand.Uint32N(1_000_000))
	}
}

// BenchmarkTwoProcesses counts a subject that another process counts without a pause.
func BenchmarkTwoProcesses(b *testing.B) {
	table, f := benchmarkTable(b, minEntries, unreached)
	for _, same := range []bool{true, false} {
		name, subject := "OtherSubject", numbered(1)
		if same {
			name, subject = "SameSubject", numbered(0)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			stop := startHammer(b, f)
			for b.Loop() {
				table.Count(Verification, subject)
			}
			stop()
		})
	}
}

// startHammer starts a process that counts subject 0, and returns what stops it.
func startHammer(b *testing.B, f *os.File) (stop func()) {
	cmd := again(b, "hammer", f)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal(line, err)
	}
	return func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			b.Error(err)
		}
	}
}
