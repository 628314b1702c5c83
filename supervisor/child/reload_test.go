package child

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// files opens new files that hold their names.
func files(t *testing.T, names ...string) (list []*os.File) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

func TestReloadBringsDescriptorsByName(t *testing.T) {
	supervisor, conn := pair(t)
	sent := files(t, "policy", "key")
	m, err := json.Marshal(Message{Type: TypeReload, Seq: 7, Reload: &Reload{Files: []ReloadFile{
		{Name: "policy", Path: "/p"}, {Name: "certificate", Path: "/c", Error: "open /c: no such file"}, {Name: "key", Path: "/k"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	before := count(t)
	if _, _, err := supervisor.WriteMsgUnix(m, unix.UnixRights(int(sent[0].Fd()), int(sent[1].Fd())), nil); err != nil {
		t.Fatal(err)
	}
	got, b, err := receive(conn, make([]byte, MaxMessage), make([]byte, unix.CmsgSpace(4*MaxFiles)))
	if err != nil || got.Seq != 7 {
		t.Fatal(got, err)
	}
	opened := Opened{Files: b.files, seq: got.Seq}
	for name, want := range map[string]string{"policy": "/p", "key": "/k"} {
		f, err := opened.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := io.ReadAll(f); err != nil || string(content) != name || f.Name() != want {
			t.Errorf("%s: %q of %s, %v", name, content, f.Name(), err)
		}
	}
	if f, err := opened.Get("certificate"); f != nil || err == nil || err.Error() != "open /c: no such file" {
		t.Errorf("certificate: %v, %v", f, err)
	}
	if f, err := opened.Get("nothing"); f != nil || err == nil {
		t.Errorf("what was not sent: %v, %v", f, err)
	}
	opened.Close()
	if now := count(t); now != before {
		t.Errorf("%d descriptors, were %d", now, before)
	}
}

// Of reloads that nobody takes the newest is kept, and the files of the others are closed.
func TestNewerReloadReplacesOneNotTaken(t *testing.T) {
	c := &Control{reloads: make(chan Opened, 1)}
	var all []*os.File
	for seq := uint32(1); seq <= 3; seq++ {
		f := files(t, "policy")[0]
		all = append(all, f)
		c.offer(Opened{Files: []OpenedFile{{Name: "policy", File: f}}, seq: seq})
	}
	for i, f := range all[:2] {
		if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("reload %d is still open: %v", i+1, err)
		}
	}
	got := <-c.Reloads()
	defer got.Close()
	if got.seq != 3 {
		t.Errorf("reload %d", got.seq)
	}
	if _, err := all[2].Stat(); err != nil {
		t.Error(err)
	}
}
