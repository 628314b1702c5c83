package server

import (
	"context"
	"os"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	keydv1 "keyd/api/keyd/v1"
)

// TestFullDisk: the result whose entry could not be written is withheld, and from then
// on nothing is begun, until there is room. A limit on the size of files stands for the full disk.
func TestFullDisk(t *testing.T) {
	f := newFront(t)
	ran := 0
	f.startWith(pins(func(ctx context.Context, _ *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		ran++
		if err := (gate{}).Authorize(ctx, "PinService/TranslatePinData", allowedKeys); err != nil {
			return nil, err
		}
		return &keydv1.TranslatePinDataResponse{KeyCheckValue: "AAAAAA"}, nil
	}))
	if answer, err := f.translate("switch"); answer == nil || err != nil {
		t.Fatalf("%v, %v", answer, err)
	}
	info, err := os.Stat(f.segment())
	if err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(info.Size()), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}()
	for i := range 3 {
		if answer, err := f.translate("switch"); answer != nil || reason(err) != "AUDIT_UNAVAILABLE" {
			t.Errorf("request %d after the disk was full: %v, %v", i+1, answer, err)
		}
	}
	if ran != 2 { // the first one, and the one that found the disk full
		t.Errorf("%d requests were begun, want 2", ran)
	}
	// There is room again: the service goes on by itself.
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	for f.config.Audit.Err() != nil {
		time.Sleep(10 * time.Millisecond)
	}
	if answer, err := f.translate("switch"); answer == nil || err != nil {
		t.Errorf("with room: %v, %v", answer, err)
	}
	if r := f.records(); len(r) != 3 || r[1].Method != "AuditLog/Recover" || r[2].Decision != "allowed" {
		t.Errorf("%+v", r)
	}
}
