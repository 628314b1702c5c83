package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample are results of everything, with figures that are easy to find again.
func sample() *results {
	load := func(o operation, m mode, rate float64) figures {
		return figures{Operation: o.String(), Mode: string(m), UnderWay: 128, Terminals: 1000, Count: 4000, Rate: rate, P50: 1.25, P99: 4.5, P999: 9.75,
			BareRate: 2000, Ratio: rate / 2000, MadeRate: 2000, MadeRatio: rate / 2000, CPU: map[string]float64{"front": 40, "module 0": 20, "module 1": 30, "client": 10},
			Memory: map[string]float64{"front": 64, "module 0": 31, "module 1": 32}, Others: 3}
	}
	paced := load(tdesToZone, unary, 7499)
	paced.Target = 7500
	keys := load(zoneToZone, stream, 9000)
	keys.Keys = 100_000
	slower := load(aesToZone, stream, 1000)
	on := func(database string, f figures) figures {
		f.Name, f.Database = f.Operation, database
		return f
	}
	whole := on(postgres, load(aesRecord, unary, 87.6))
	whole.Name = "voids, supervisor"
	return &results{
		Machine:     machine{Processors: 2, Model: "Some CPU", Kernel: "6.1", MemoryGiB: 24, Sync50: 0.5, Sync99: 2, Go: "go1", SoftHSM: "2.6.1", Keyd: "v1"},
		Setup:       setup{Modules: 2, Seconds: 2, Calls: 128, Connections: 4, Terminals: 1000, Age: 10_000, KSN: "monotonic"},
		Token:       tokenCosts{8, 15, 28, 9, 44},
		Derivations: derivationRates{TDES: 200_000, AES: 90_000, AESToken: 1400, TDESBits: 8.5, AESSteps: 16},
		Empty:       []figures{{Operation: emptyCall.String(), Mode: "unary", Rate: 54_321, CPU: map[string]float64{"front": 20, "client": 20}}},
		Closed:      []figures{load(tdesToZone, unary, 12_345), load(tdesToZone, stream, 19_000), load(aesToZone, unary, 1100)},
		Calls:       []operationCalls{{tdesToZone.String(), tokenCalls{TDES: 3, TDESBlocks: 3}, 41_666}},
		Paced:       []figures{paced},
		KSN:         []figures{load(tdesToZone, stream, 950), load(tdesToZone, stream, 1000)},
		KSNCost:     &ksnCost{RatePercent: 5, FrontUS: 2, AllUS: 3},
		Compared:    []comparison{{With: "no log", This: load(zoneToZone, unary, 8765), Other: load(zoneToZone, unary, 10_000), RatePercent: 12.35}},
		Terminals:   []figures{load(aesToZone, stream, 1100), slower},
		Keys:        []figures{keys},
		Enrolment: &enrolment{Terminals: 10_000, RSA: 200, AtOnce: 32, Proven: 10_000, Keys: 20_000, Seconds: 321,
			Steps: []step{{Name: "TR-34 two-pass", Count: 100, Seconds: 2, Rate: 50, P50: 610, P99: 720}}},
		Alone:   []alone{{Name: "AES DUKPT, PIN record", US: 500}},
		Records: []figures{on(sqlite, load(aesVerify, unary, 4000)), on(sqlite, load(aesRecord, unary, 1000)), on(postgres, load(aesVerify, unary, 2000)), on(postgres, load(tdesRecord, unary, 876))},
		Voids:   []voidFigures{{figures: whole, Steps: []voidStep{{"create", 1, 2}, {"scan", 3, 4}, {"authorise", 5, 6}, {"verify the token", 0.1, 0.2}, {"confirm", 7, 8}}}},
		Shares:  &shares{Audit: 10, KSN: 4, Store: 3, GRPC: 50, GC: 8},
	}
}

func TestPageHasTheFigures(t *testing.T) {
	b, err := renderPage(sample())
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, want := range []string{
		"# Performance\n", "| 2: Some CPU |", "SoftHSM 2.6.1", "54,321", "12,345", "100,000", "31 + 32",
		"| TDES DUKPT → zone, unary: above 10,000/s | 12,345/s | yes |",
		"| TDES DUKPT → zone, stream: above 20,000/s | 19,000/s | no |",
		"| p99 at 7,500/s, unary: under 10 ms | 4.50 ms | yes |",
		"| p99 at 15,000/s, stream: under 10 ms | not reached | no |",
		"| AES DUKPT → zone, unary: at least 60 % of the bare token for the calls made | 55 % | no |",
		"| audit and KSN checks together: less than 15 % | 9.0 % | yes |", // 5 and 10 % of 40 in 100 µs
		"| zone → zone, audit log against no log: less than 10 % | 12.3 % | no |", "8,765",
		"| AES DUKPT → zone: rate flat over the number of terminals | lowest is 91 % of highest | yes |",
		"10,000 terminals get their keys, 32 at once", "| TR-34 two-pass | 100 | 50.0 | 610.00 | 720.00 |", "no two of 20,000 initial keys were the same",
		"## PINs of supervisors\n", "| AES DUKPT, PIN record | SQLite | 128 | 1,000 | 25.0 |", "| TDES DUKPT, PIN record | PostgreSQL | 128 | 876 |  |",
		"| AES DUKPT, PIN record, a module alone | none | 1 | 2,000 |  | 0.50 |",
		"## Voids\n", "| supervisor | PostgreSQL | 128 | 87.6 | 1.25 / 4.50 | 1.00 / 2.00 | 3.00 / 4.00 | 5.00 / 6.00 | 0.10 / 0.20 | 7.00 / 8.00 |",
		"at most 3 % of the processors",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"<no value>", "%!", "NaN", "\n\n\n"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, "|--") {
			continue
		}
		if strings.HasPrefix(line, "|") && strings.Contains(line, "µs | µs") {
			t.Errorf("heading twice: %s", line)
		}
	}
}

// Every row of a table has a cell for each heading.
func TestTablesAreWhole(t *testing.T) {
	r := sample()
	if len(r.tables()) != 13 {
		t.Errorf("%d tables", len(r.tables()))
	}
	for _, table := range r.tables() {
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: a row of %d cells under %d headings", table.Title, len(row), len(table.Header))
			}
		}
	}
	var out bytes.Buffer
	if err := printTables(&out, r); err != nil || !strings.Contains(out.String(), "12,345") {
		t.Errorf("%v\n%s", err, &out)
	}
	// What was not measured has no table.
	if got := (&results{}).tables(); len(got) != 2 { // the bare token and derivations are always measured
		t.Errorf("%d tables of nothing", len(got))
	}
}

func TestPageDoesNotTellWhichMachine(t *testing.T) {
	m, err := readMachine(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := sample()
	r.Machine = m
	path := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writePage(path, r); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	directory, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{directory, os.TempDir(), "keyd-bench-", "/proc/"} {
		if bytes.Contains(b, []byte(private)) {
			t.Errorf("the page contains %q", private)
		}
	}
	if len(host) > 4 && bytes.Contains(b, []byte(host)) {
		t.Error("the page contains the host's name")
	}
	if m.Sync50 <= 0 || m.Sync99 < m.Sync50 || m.MemoryGiB <= 0 || m.Kernel == "" {
		t.Errorf("machine: %+v", m)
	}
	if err := writePage(filepath.Join(t.TempDir(), "none", "page.md"), r); err == nil {
		t.Error("a page is written to a directory that is not there")
	}
}

func TestNumbersHaveCommas(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestSharesOfAProfile(t *testing.T) {
	const out = `File: keyd
Type: cpu
Duration: 60s, Total samples = 41.25s (68.75%)
Active filters:
   focus=^keyd/audit\.
Showing nodes accounting for 2.15s, 5.21% of 41.25s total
      flat  flat%   sum%        cum   cum%
         0     0%     0%      2.15s  5.21%  keyd/audit.(*Log).Append
`
	if got, err := parseShare(out, ""); err != nil || got != 5.21 {
		t.Errorf("%v %%, %v", got, err)
	}
	if got, err := parseShare("", "focus expression matched no samples"); err != nil || got != 0 {
		t.Errorf("no samples: %v %%, %v", got, err)
	}
	if _, err := parseShare("something else", ""); err == nil {
		t.Error("an output without a share is taken")
	}
}
