package officer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func fingerprint(text string) Fingerprint { return sha256.Sum256([]byte(text)) }

func TestFingerprint(t *testing.T) {
	f := fingerprint("")
	const text = "E3B0 C442 98FC 1C14 9AFB F4C8 996F B924 27AE 41E4 649B 934C A495 991B 7852 B855"
	if f.String() != text {
		t.Errorf("%s, want %s", f, text)
	}
	pairs := strings.ReplaceAll(text, " ", "")
	var colons []string
	for i := 0; i < len(pairs); i += 2 {
		colons = append(colons, strings.ToLower(pairs[i:i+2]))
	}
	for _, s := range []string{text, strings.ToLower(text), pairs, strings.Join(colons, ":"), " " + text + "\r\n"} {
		if got, err := ParseFingerprint(s); err != nil || !got.Equal(f) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", text[:len(text)-1], text + "0", text[:len(text)-1] + "g", strings.ReplaceAll(text, " ", "-"), text + " SHA256", "SHA256:" + pairs} {
		if got, err := ParseFingerprint(s); err == nil || got != (Fingerprint{}) {
			t.Errorf("%q: %v", s, got)
		}
	}
	g := f
	g[31] ^= 1
	if f.Equal(g) || !f.Equal(f) {
		t.Error("Equal is wrong")
	}
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add(fingerprint("").String())
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseFingerprint(text)
		if err != nil {
			return
		}
		if again, err := ParseFingerprint(got.String()); err != nil || again != got {
			t.Errorf("%v", err)
		}
	})
}

func TestKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config", "keyd", "known.json")
	k, err := Load(path)
	must(t, err)
	id, roster := fingerprint("identity"), fingerprint("roster")
	const name = "keyd.example:7443"
	if err := k.Check(name, id, roster); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), id.String()) || !strings.Contains(err.Error(), roster.String()) {
		t.Errorf("%v", err)
	}
	must(t, k.Trust(name, id, roster))
	must(t, k.Trust("测试机", roster, id))
	again, err := Load(path)
	must(t, err)
	for _, k := range []*Known{k, again} {
		must(t, k.Check(name, id, roster))
		if err := k.Check(name, roster, roster); !errors.Is(err, ErrIdentityChanged) || errors.Is(err, ErrRosterChanged) {
			t.Errorf("%v", err)
		}
		if err := k.Check(name, roster, id); !errors.Is(err, ErrIdentityChanged) {
			t.Errorf("both changed: %v", err)
		}
		if err := k.Check(name, id, id); !errors.Is(err, ErrRosterChanged) || errors.Is(err, ErrIdentityChanged) {
			t.Errorf("%v", err)
		}
		if err := k.Check("keyd.example:7444", id, roster); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v", err)
		}
		if got := fmt.Sprint(k.Names()); got != "[keyd.example:7443 测试机]" {
			t.Errorf("names %s", got)
		}
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	dir, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(dir) != 1 {
		t.Errorf("left behind: %v", dir)
	}
	must(t, again.Trust(name, id, id))
	must(t, again.Check(name, id, id))
}

func TestKnownNames(t *testing.T) {
	k, err := Load(filepath.Join(t.TempDir(), "known.json"))
	must(t, err)
	for _, name := range []string{"", "a\nb", "a\x1b[31m", "\xff", strings.Repeat("x", 256)} {
		if k.Trust(name, Fingerprint{}, Fingerprint{}) == nil {
			t.Errorf("%q is trusted", name)
		}
		if err := k.Check(name, Fingerprint{}, Fingerprint{}); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What several processes record at a time is all there.
func TestKnownConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.json")
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			k, err := Load(path)
			if err == nil {
				err = k.Trust(fmt.Sprintf("server-%d", i), fingerprint("a"), fingerprint("b"))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	k, err := Load(path)
	must(t, err)
	if len(k.Names()) != 16 {
		t.Errorf("%d of 16 were kept", len(k.Names()))
	}
}

func TestKnownFileIsStrict(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "known.json")
	f := fingerprint("").String()
	entry := fmt.Sprintf(`{"identity":%q,"roster":%q}`, f, f)
	for text, ok := range map[string]bool{
		`{"version":1,"servers":{}}`:                  true,
		`{"version":1,"servers":{"a":` + entry + `}}`: true,
		``:                                    false,
		`{"version":2,"servers":{}}`:          false,
		`{"version":1}`:                       false,
		`{"version":1,"servers":null}`:        false,
		`{"version":1,"servers":[]}`:          false,
		`{"version":1,"servers":{},"more":1}`: false,
		`{"version":1,"servers":{}}{}`:        false,
		`{"version":1,"servers":{"a":` + entry + `,"a":` + entry + `}}`:     false,
		`{"version":1,"servers":{"":` + entry + `}}`:                        false,
		`{"version":1,"servers":{"a":{}}}`:                                  false,
		`{"version":1,"servers":{"a":null}}`:                                false,
		`{"version":1,"servers":{"a":{"identity":"` + f + `"}}}`:            false,
		`{"version":1,"servers":{"a":{"identity":"12","roster":"12"}}}`:     false,
		`{"version":1,"servers":{"a":{"identity":null,"roster":null}}}`:     false,
		`{"version":1,"servers":{"a":` + entry[:len(entry)-1] + `,"x":1}}}`: false,
	} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		k, err := Load(path)
		if (err == nil) != ok || (k == nil) == ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	// A broken file is not overwritten.
	k := &Known{path: path, servers: map[string]pinned{}}
	must(t, os.WriteFile(path, []byte("broken"), 0o600))
	if k.Trust("a", Fingerprint{}, Fingerprint{}) == nil || len(k.Names()) != 0 {
		t.Error("a broken file was overwritten")
	}
	must(t, os.WriteFile(path, []byte(`{"version":1,"servers":{}}`), 0o600))
	must(t, os.Chmod(path, 0o620))
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "others may change") {
		t.Errorf("%v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was loaded")
	}
}

func FuzzKnown(f *testing.F) {
	p := fingerprint("").String()
	f.Add(fmt.Appendf(nil, `{"version":1,"servers":{"a":{"identity":%q,"roster":%q}}}`, p, p))
	f.Fuzz(func(t *testing.T, text []byte) {
		servers, err := parseKnown(text)
		if err != nil && servers != nil {
			t.Error("servers and an error")
		}
		for name := range servers {
			must(t, checkName(name))
		}
	})
}

func TestDefaultKnown(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "/home/officer")
	if got, err := DefaultKnown(); err != nil || got != "/home/officer/.config/keyd/known.json" {
		t.Errorf("%s, %v", got, err)
	}
}
