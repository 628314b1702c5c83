package keyd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layout is the map from top to bottom: a folder imports itself and those below it. A
// new folder needs a place here. hsm/module stands above hsm, whose types it uses.
var layout = []string{
	"e2e", "bench", "examples", "client", "cmd/keyd", "service", "front", "development", "officer", "simulator", "config", "admin", "metrics", "tracing",
	"server", "voids", "pinsvc", "datasvc", "keyuse", "terminals", "backup", "keys", "ksn", "policies", "web", "audit", "store", "softhsm-config", "nss-config",
	"hsm/module", "receipt", "pinrecord", "ceremony", "hsm", "vault", "supervisor", "tr34", "keyagreement", "trust", "dukpt", "pinblock", "keyblock", "checkpoint",
	"voids/code", "voids/fees", "voids/flow", "voidtoken", "passkey", "fault", "gather", "turns", "api",
}

// frontSide is the code of the process that strangers reach: it never meets a clear
// PIN, a clear key or the token.
var frontSide = []string{
	"front", "admin", "metrics", "tracing", "server", "pinsvc", "datasvc", "keyuse", "backup", "keys", "ksn", "terminals", "voids", "policies", "web", "audit", "store", "receipt", "pinrecord", "ceremony", "hsm",
}

// secretSide is what the front never reaches.
var secretSide = []string{"keyd/tr34", "keyd/keyblock/software", "keyd/keyagreement", "keyd/pinblock", "keyd/dukpt/software", "keyd/hsm/module", "github.com/miekg/pkcs11"}

// present are the folders without which the tests below would prove nothing.
var present = []string{
	"front", "admin", "metrics", "tracing", "server", "pinsvc", "datasvc", "keyuse", "backup", "keys", "ksn", "policies", "audit", "store", "hsm", "hsm/module", "supervisor", "checkpoint",
	"dukpt", "dukpt/software", "pinblock", "cmd/keyd", "client", "ceremony", "keyblock", "officer", "tr34", "terminals",
}

// graph has the direct imports of every package, those of other modules included.
type graph map[string][]string

func TestFrontNeverReachesSecrets(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		for _, folder := range frontSide {
			for _, target := range secretSide {
				// hsm is the client side: its subfolder hsm/module is the other.
				if path := g.path(folderOf(folder), under(target)); path != nil {
					t.Errorf("%s reaches %s: %s", folder, target, strings.Join(path, " → "))
				}
			}
		}
	})
}

// The supervisor has no listener, no foreign input and no database, and is no way
// around the wall.
func TestSupervisorReachesNeitherSide(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		targets := slices.Clone(secretSide)
		for _, folder := range frontSide {
			targets = append(targets, "keyd/"+folder)
		}
		for _, target := range append(targets, "database/sql", "google.golang.org/grpc", "net/http") {
			if path := g.path(folderOf("supervisor"), under(target)); path != nil {
				t.Errorf("supervisor reaches %s: %s", target, strings.Join(path, " → "))
			}
		}
	})
}

// Vault is the unlock process's alone: neither the front nor a module has what it takes to
// ask it, nor does the supervisor.
func TestVaultIsTheUnlockProcesss(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		for _, folder := range append(slices.Clone(frontSide), "hsm/module", "supervisor", "client") {
			if path := g.path(folderOf(folder), under("github.com/hashicorp/vault")); path != nil {
				t.Errorf("%s reaches Vault: %s", folder, strings.Join(path, " → "))
			}
		}
		if g.path(folderOf("cmd/keyd"), under("github.com/hashicorp/vault")) == nil {
			t.Error("no way from cmd/keyd to Vault is found, though there is one")
		}
	})
}

// PKCS#11 is called in one place, and the codecs and derivations of secrets know
// nothing of services.
func TestSecretSideIsNarrow(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		for importer, imports := range g {
			if strings.HasPrefix(importer, "keyd/") && slices.Contains(imports, "github.com/miekg/pkcs11") && !under("keyd/hsm/module")(importer) &&
				importer != "keyd/bench" && // the load generator compares with the bare token; it is no part of keyd
				importer != "keyd/officer/card" { // an officer's smart card, on the officer's own machine
				t.Errorf("%s imports miekg/pkcs11", importer)
			}
		}
		for _, from := range []string{"pinblock", "dukpt", "tr34"} {
			for _, target := range []string{"net", "database/sql", "google.golang.org/grpc", "keyd/hsm", "keyd/store", "keyd/audit"} {
				if from == "tr34" && target == "net" {
					continue // crypto/x509 needs it for addresses in certificates; see below
				}
				if path := g.path(folderOf(from), under(target)); path != nil {
					t.Errorf("%s reaches %s: %s", from, target, strings.Join(path, " → "))
				}
			}
		}
		for _, imported := range g["keyd/tr34"] {
			if slices.Contains([]string{"net", "os", "syscall"}, imported) || under("keyd")(imported) && imported != "keyd/keyblock" {
				t.Errorf("tr34 imports %s", imported)
			}
		}
	})
}

// A client is on the other side of the network: it knows the contract, and the programs that
// show it know the client, and what a switch checks void tokens with.
func TestClientKnowsTheContractOnly(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		for _, c := range []struct {
			folder  string
			besides []string
		}{{"client", nil}, {"examples", []string{"keyd/client", "keyd/voidtoken"}}} {
			for importer, imports := range g {
				if !folderOf(c.folder)(importer) {
					continue
				}
				for _, imported := range imports {
					if strings.HasPrefix(imported, "keyd/") && !under("keyd/api")(imported) && !slices.Contains(c.besides, imported) {
						t.Errorf("%s imports %s", importer, imported)
					}
				}
			}
		}
	})
}

// What is for tests only is not in the binary.
func TestBinaryHasNoTestCode(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		if path := g.path(folderOf("cmd/keyd"), under("testing")); path != nil {
			t.Errorf("cmd/keyd reaches testing: %s", strings.Join(path, " → "))
		}
	})
}

func TestImportsRunDownwards(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		for _, problem := range g.upward() {
			t.Error(problem)
		}
	})
}

// The tests above must be able to fail: the real graph has the ways that they look
// for, and one import added to it is found.
func TestLayoutTestsCatchBreaches(t *testing.T) {
	forEachBuild(t, func(t *testing.T, g graph) {
		for from, target := range map[string]string{
			"hsm/module": "github.com/miekg/pkcs11", "cmd/keyd": "keyd/pinblock", "simulator": "keyd/dukpt/software",
		} {
			if g.path(folderOf(from), under(target)) == nil {
				t.Errorf("no way from %s to %s is found, though there is one", from, target)
			}
		}
		for _, folder := range append(slices.Clone(frontSide), "supervisor") {
			importer := "keyd/" + folder
			if g[importer] == nil {
				continue // not built yet; those that must be there are checked by forEachBuild
			}
			for _, target := range secretSide {
				breached := g.with("example.org/between", target).with(importer, "example.org/between")
				if got := breached.path(folderOf(folder), under(target)); !slices.Equal(got, []string{importer, "example.org/between", target}) {
					t.Errorf("an import of %s by %s through another package is found as %v", target, importer, got)
				}
			}
		}
		if got := len(g.with("keyd/hsm", "keyd/server").upward()); got != 1 {
			t.Errorf("hsm importing server makes %d upward imports, want 1", got)
		}
		if got := len(g.with("keyd/newfolder", "fmt").upward()); got != 1 {
			t.Errorf("a folder without a place makes %d problems, want 1", got)
		}
	})
}

// forEachBuild runs the test on the graph of both builds: with runtime/secret and
// without.
func forEachBuild(t *testing.T, run func(t *testing.T, g graph)) {
	t.Helper()
	for name, experiment := range map[string]string{"plain": "", "runtimesecret": "runtimesecret"} {
		t.Run(name, func(t *testing.T) {
			g := load(t, experiment)
			for _, folder := range present {
				if _, ok := g["keyd/"+folder]; !ok {
					t.Fatalf("there is no package keyd/%s", folder)
				}
			}
			run(t, g)
		})
	}
}

func load(t *testing.T, experiment string) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOEXPERIMENT="+experiment)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	g := graph{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = append([]string{}, p.Imports...)
	}
}

// with returns the graph with one more import.
func (g graph) with(importer, imported string) graph {
	h := graph{}
	for k, v := range g {
		h[k] = v
	}
	h[importer] = append(slices.Clone(h[importer]), imported)
	if _, ok := h[imported]; !ok {
		h[imported] = nil
	}
	return h
}

// path returns a shortest chain of imports from a package of one set to one of the
// other, or nil.
func (g graph) path(from, to func(string) bool) []string {
	var queue []string
	before := map[string]string{}
	for p := range g {
		if from(p) {
			queue = append(queue, p)
			before[p] = ""
		}
	}
	slices.Sort(queue)
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		if to(p) {
			var path []string
			for ; p != ""; p = before[p] {
				path = append(path, p)
			}
			slices.Reverse(path)
			return path
		}
		for _, next := range g[p] {
			if _, seen := before[next]; !seen {
				before[next] = p
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// upward returns the imports that do not run downwards, and the folders that have no
// place in the layout.
func (g graph) upward() []string {
	var problems []string
	for importer, imports := range g {
		if !strings.HasPrefix(importer, "keyd/") {
			continue
		}
		from := place(importer)
		if from < 0 {
			problems = append(problems, importer+" has no place in the layout")
			continue
		}
		for _, imported := range imports {
			if strings.HasPrefix(imported, "keyd/") && place(imported) >= 0 && place(imported) < from {
				problems = append(problems, importer+" imports "+imported+", which stands above it")
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// place returns the row of the layout that a package belongs to, or -1.
func place(pkg string) int {
	return slices.IndexFunc(layout, func(folder string) bool { return folderOf(folder)(pkg) })
}

// folderOf matches the packages of a row of the layout: the folder and what is in it,
// but not what is in a row of its own.
func folderOf(folder string) func(string) bool {
	return func(pkg string) bool {
		if !under("keyd/" + folder)(pkg) {
			return false
		}
		return !slices.ContainsFunc(layout, func(other string) bool {
			return strings.HasPrefix(other, folder+"/") && under("keyd/"+other)(pkg)
		})
	}
}

// under matches a package and those in its folder.
func under(path string) func(string) bool {
	return func(pkg string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }
}
