package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	keydv1 "keyd/api/keyd/v1"
)

// samples is how many sample keys every keyd dev has.
const samples = 12

// TestDirectoryIsUsedAgain starts a service twice in one directory: certificates and
// keys stay, --keys replaces keys of the same names, and a name joins the certificate.
func TestDirectoryIsUsedAgain(t *testing.T) {
	dir := filepath.Join(tempDir(t), "dev")
	ring := newKeyring()
	first := startIn(t, dir, ring.keys...)
	kcv := checkValue(t, first)
	before := file(t, filepath.Join(dir, "certs", "switch.crt"))
	if first.status().Keys != samples+2 { // and two of the test
		t.Errorf("%d keys", first.status().Keys)
	}
	first.stop()

	second := startIn(t, dir)
	if got := checkValue(t, second); got != kcv {
		t.Errorf("check value %s, before %s", got, kcv)
	}
	if !bytes.Equal(before, file(t, filepath.Join(dir, "certs", "switch.crt"))) {
		t.Error("the client certificate changed")
	}
	second.stop()

	changed := ring.keys[0]
	changed.Value = "0123456789ABCDEFFEDCBA9876543210"
	third := startIn(t, dir, changed)
	if got := checkValue(t, third); got == kcv || got != "08D7B4" {
		t.Errorf("check value %s after the key was replaced", got)
	}
	if third.status().Keys != samples+2 {
		t.Errorf("%d keys", third.status().Keys)
	}
}

// checkValue translates under the ring's first key and returns its check value.
func checkValue(t *testing.T, s *service) string {
	t.Helper()
	answer, err := translated(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return answer.KeyCheckValue
}

func translated(t *testing.T, s *service) (*keydv1.TranslatePinDataResponse, error) {
	t.Helper()
	in := &keydv1.PinKey{KeyId: "bdk-tdes", Format: keydv1.PinBlockFormat_ISO_FORMAT_0,
		Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}}
	out := &keydv1.PinKey{KeyId: "p0-t-0", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	return s.pins().TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out,
		PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: unhex(t, "1B9C1845EB993A7A")})
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTestKeysAreChecked tries files that must stop the start, with a sentence that
// says what to mend and no value.
func TestTestKeysAreChecked(t *testing.T) {
	dir := tempDir(t)
	for name, c := range map[string]struct{ keys, want string }{
		"single DES":    {`[{"name":"k","usage":"V2","algorithm":"T","mode_of_use":"V","value":"1C1C1C1C1C1C1C1C"}]`, "single DES"},
		"unknown field": {`[{"name":"k","colour":"blue"}]`, "colour"},
		"no JSON":       {`name=k`, "JSON array"},
	} {
		path := filepath.Join(dir, "keys.json")
		if err := os.WriteFile(path, []byte(c.keys), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(keydBinary, "dev", "--dir", filepath.Join(dir, "dev"), "--listen", "127.0.0.1:0", "--keys", path).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "1C1C1C") || strings.Contains(string(out), "ready") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// What was refused has left the directory usable.
	if n := startIn(t, filepath.Join(dir, "dev")).status().Keys; n != samples {
		t.Errorf("%d keys, want the %d samples", n, samples)
	}
}

// TestDirectoriesThatAreNotTaken tries directories that are somebody's or something
// else's, or in use.
func TestDirectoriesThatAreNotTaken(t *testing.T) {
	dir := tempDir(t)
	full := filepath.Join(dir, "full")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"letter", "pin"} {
		if err := os.WriteFile(filepath.Join(full, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	used := startIn(t, filepath.Join(dir, "used"))
	for path, want := range map[string]string{full: "holds pin", filepath.Join(full, "letter"): "not a directory", used.dir: "in use"} {
		out, err := exec.Command(keydBinary, "dev", "--dir", path, "--listen", "127.0.0.1:0").CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
	if info, err := os.Stat(full); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the mode of a directory that was refused: %v, %v", info.Mode(), err)
	}
	checkStillServes(t, used)

	// With files of other names it is taken, and they stay as they are.
	if err := os.Remove(filepath.Join(full, "pin")); err != nil {
		t.Fatal(err)
	}
	checkStillServes(t, startIn(t, full))
	if info, err := os.Stat(filepath.Join(full, "letter")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file that was there: %v, %v", info, err)
	}
	if info, err := os.Stat(full); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the mode of the directory: %v, %v", info.Mode(), err)
	}
}

func checkStillServes(t *testing.T, s *service) {
	t.Helper()
	if n := s.status().Keys; n != samples {
		t.Errorf("%d keys", n)
	}
}

// TestALostTokenGetsItsSampleKeysAgain removes the token's store.
func TestALostTokenGetsItsSampleKeysAgain(t *testing.T) {
	dir := filepath.Join(tempDir(t), "dev")
	startIn(t, dir).stop()
	if err := os.RemoveAll(filepath.Join(dir, "token", "tokens")); err != nil {
		t.Fatal(err)
	}
	s := startIn(t, dir)
	_, err := s.pins().TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{KeyId: "bdk-tdes", Format: keydv1.PinBlockFormat_ISO_FORMAT_0,
			Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}},
		Outgoing:             &keydv1.PinKey{KeyId: "zone-issuer", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: unhex(t, "1B9C1845EB993A7A")})
	if err != nil {
		t.Error(err)
	}
}

// TestBelowAPrivateDirectory runs where the users of front and modules cannot go.
func TestBelowAPrivateDirectory(t *testing.T) {
	s := startIn(t, filepath.Join(t.TempDir(), "dev")) // 0700 above it
	if checked := s.status(); len(checked.Tokens) == 0 {
		t.Error("no token")
	}
}

// TestReflection lists the services as grpcurl does.
func TestReflection(t *testing.T) {
	s := start(t)
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(s.tls("terminal-1"))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the answer is there
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, service := range answer.GetListServicesResponse().GetService() {
		names = append(names, service.Name)
	}
	if all := strings.Join(names, " "); !strings.Contains(all, "keyd.v1.PinService") || !strings.Contains(all, "keyd.v1.StatusService") {
		t.Errorf("services: %s", all)
	}
}
