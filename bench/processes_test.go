package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestProcessorTimes(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 19"
	for _, name := range []string{"(keyd)", "(a b)", "(ends ) S 1 2)", "(()"} {
		if got, err := parseStat("42 " + name + rest); err != nil || got != 3_000_000 {
			t.Errorf("%s: %v µs, %v; want 3,000,000", name, got, err)
		}
	}
	for _, text := range []string{"", "42 (keyd", "42 (keyd) S 1 2 3", "42 (keyd)" + strings.Replace(rest, "250", "-1", 1)} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("%q: %v µs", text, got)
		}
	}
}

func TestProcessorTimesOfTheMachine(t *testing.T) {
	if got, err := parseBusy("cpu  100 10 50 7777 3 4 5 40 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"); err != nil || got != 2_000_000 {
		t.Errorf("%v µs, %v; want 2,000,000", got, err)
	}
	for _, text := range []string{"", "cpu0 1 2 3 4 5 6 7 8 9", "cpu 1 2 3", "cpu 1 2 x 4 5 6 7 8 9"} {
		if _, err := parseBusy(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestOthersAreWhatIsNotMeasured(t *testing.T) {
	var u usage
	at := time.Now()
	u.add(reading{[]float64{0, 5}, 100, at}, reading{[]float64{300, 105}, 600, at})
	u.possible = 1000
	if got := u.others(); got != 10 {
		t.Errorf("others have %v %%, want 10", got)
	}
}

func TestOwnProcessIsMeasured(t *testing.T) {
	own := []process{{"client", os.Getpid()}}
	before, err := readCPU(own)
	if err != nil {
		t.Fatal(err)
	}
	for after := before; after.own[0] == before.own[0]; { // the kernel counts in hundredths of a second
		if after, err = readCPU(own); err != nil {
			t.Fatal(err)
		}
	}
	if sizes, err := readMemory(own); err != nil || sizes[0] < 1 {
		t.Errorf("memory: %v MiB, %v", sizes, err)
	}
	if _, err := readCPU([]process{{"gone", 1 << 30}}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a process that is no more: %v", err)
	}
}

func TestMemorySizes(t *testing.T) {
	const status = "Name:\tkeyd\nVmHWM:\t 9999 kB\nVmRSS:\t   20480 kB\n"
	if got, err := parseKilobytes(status, "VmRSS:"); err != nil || got != 20480 {
		t.Errorf("%v kB, %v", got, err)
	}
	for _, text := range []string{"", "VmRSS:\n", "VmRSS: 1 MB\n", "VmRSS: x kB\n"} {
		if _, err := parseKilobytes(text, "VmRSS:"); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
