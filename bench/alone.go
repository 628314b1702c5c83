package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// alone is how long an operation takes in a module by itself: on a token, without a front, a network
// or a database, one after the other.
type alone struct {
	Name string  `json:"name"`
	US   float64 `json:"us"`
}

// alonePackage has the benchmarks of the operations.
const alonePackage = "keyd/hsm/module/internal/pinrecords"

var aloneLine = regexp.MustCompile(`(?m)^Benchmark(VerifyRecord|AuthorizeVoid)/(AES|TDES)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

// measureAlone runs the module's own benchmarks, each for length.
func measureAlone(ctx context.Context, length time.Duration) ([]alone, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^Benchmark(VerifyRecord|AuthorizeVoid)$", "-benchtime", length.String(), alonePackage)
	cmd.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret", "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s: %w\n%s", alonePackage, err, out)
	}
	return parseAlone(string(out))
}

// parseAlone reads what go test -bench has printed: two operations under each of two schemes.
func parseAlone(out string) (list []alone, err error) {
	names := map[string]string{"VerifyRecord": "PIN record", "AuthorizeVoid": "authorise a void"}
	for _, found := range aloneLine.FindAllStringSubmatch(out, -1) {
		ns, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			return nil, fmt.Errorf("go test -bench: %w", err)
		}
		list = append(list, alone{found[2] + " DUKPT, " + names[found[1]], ns / 1e3})
	}
	if len(list) != 4 {
		return nil, fmt.Errorf("go test -bench: %d of 4 figures in its output:\n%s", len(list), out)
	}
	return list, nil
}
