package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// buildForProfiles builds keyd with the tag profile, under which front and modules write
// CPU profiles of their whole lives.
func buildForProfiles(ctx context.Context, dir string) (string, error) {
	keyd := filepath.Join(dir, "keyd")
	return keyd, buildKeyd(ctx, keyd, "-tags", "profile", "-ldflags", "-X main.version=profiled")
}

// buildKeyd builds keyd as make does, with some flags more.
func buildKeyd(ctx context.Context, file string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", file}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "keyd/cmd/keyd")...)
	cmd.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret", "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build keyd: %w\n%s", err, out)
	}
	return nil
}

// copyProfiles copies what a service that has ended left in its directory, and returns
// the front's profile.
func copyProfiles(dev, to string) (front string, err error) {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return "", err
	}
	profiles, err := filepath.Glob(filepath.Join(dev, "*", "*.pprof"))
	if err != nil {
		return "", err
	}
	if len(profiles) == 0 {
		return "", errors.New("the processes left no profile")
	}
	front = filepath.Join(to, "front.pprof")
	for _, from := range profiles {
		b, err := os.ReadFile(from)
		if err != nil {
			return "", fmt.Errorf("profile: %w", err)
		}
		if len(b) == 0 {
			return "", fmt.Errorf("profile %s is empty: the process did not end well", filepath.Base(from))
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(from)), b, 0o644); err != nil {
			return "", err
		}
	}
	return front, nil
}

// shares is how much of the front's processor time was spent in some of its packages,
// whatever they called included, in percent.
type shares struct {
	Audit float64 `json:"audit_percent"`
	KSN   float64 `json:"ksn_percent"`
	Store float64 `json:"store_percent"`
	GRPC  float64 `json:"grpc_and_tls_percent"`
	GC    float64 `json:"garbage_collection_percent"`
}

// readShares looks into a profile of the front.
func readShares(ctx context.Context, profile string) (s shares, err error) {
	for _, part := range []struct {
		share *float64
		focus string
	}{
		{&s.Audit, `^keyd/audit\.`},
		{&s.KSN, `^keyd/ksn\.`},
		{&s.Store, `^keyd/store\.`},
		{&s.GRPC, `^google\.golang\.org/grpc/internal/transport\.|^crypto/tls\.`},
		{&s.GC, `^runtime\.(gcBgMarkWorker|gcAssistAlloc|bgsweep|bgscavenge)`},
	} {
		cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=1000000", "-nodefraction=0", "-edgefraction=0", "-focus="+part.focus, profile)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if err != nil {
			return s, fmt.Errorf("go tool pprof: %w\n%s", err, &complaint)
		}
		if *part.share, err = parseShare(string(out), complaint.String()); err != nil {
			return s, err
		}
	}
	return s, nil
}

var accounted = regexp.MustCompile(`(?m)^Showing nodes accounting for [^,\n]+, ([0-9.]+)% of [^\n]+ total$`)

// parseShare returns the percentage that pprof -top says its filter left. It complains
// about a filter that nothing passes.
func parseShare(out, complaint string) (float64, error) {
	if strings.Contains(complaint, "matched no samples") {
		return 0, nil
	}
	found := accounted.FindStringSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("go tool pprof: no share in its output:\n%s", out)
	}
	return strconv.ParseFloat(found[1], 64)
}
