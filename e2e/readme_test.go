package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeExample runs the commands of the example in each README and compares what it
// says they print.
func TestReadmeExample(t *testing.T) {
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		t.Run(name, func(t *testing.T) { runReadme(t, filepath.Join("..", name)) })
	}
}

func runReadme(t *testing.T, path string) {
	dir := tempDir(t)
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(keydBinary, filepath.Join(dir, "bin", "keyd")); err != nil {
		t.Fatal(err)
	}
	startIn(t, filepath.Join(dir, "try"))
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	examples := strings.Split(string(readme), "```console\n")[1:]
	for _, example := range examples {
		commands, _, ended := strings.Cut(example, "```")
		if !ended {
			t.Fatal("a console example of the README does not end")
		}
		block.WriteString("\n" + commands)
	}
	if len(examples) != 2 {
		t.Fatalf("the README has %d console examples", len(examples))
	}
	compared := 0
	for _, step := range strings.Split(block.String(), "\n$ ")[1:] {
		command, want, _ := strings.Cut(step, "\n")
		for strings.HasSuffix(command, "\\") {
			more, rest, _ := strings.Cut(want, "\n")
			command, want = strings.TrimSuffix(command, "\\")+more, rest
		}
		if strings.Contains(command, "keyd dev ") {
			continue // it runs already, on a free port
		}
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		if want = strings.TrimSpace(want); want != "" {
			compared++
			if got := strings.TrimSpace(string(out)); got != want {
				t.Errorf("%s\nprints\n%s\nand the README says\n%s", command, got, want)
			}
		}
	}
	if compared != 3 {
		t.Errorf("%d outputs were compared", compared)
	}
}

// TestFirstTransaction runs what make run runs, without a terminal.
func TestFirstTransaction(t *testing.T) {
	dir := tempDir(t)
	for _, d := range []string{"bin", "examples"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"first-transaction.sh", "void-at-the-counter.sh", "story.sh"} {
		if err := os.WriteFile(filepath.Join(dir, "examples", name), readAll(t, filepath.Join("..", "examples", name)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", "switch-void"), "keyd/examples/switch-void").CombinedOutput(); err != nil {
		t.Fatalf("build the switch: %v\n%s", err, out)
	}
	if err := os.Symlink(keydBinary, filepath.Join(dir, "bin", "keyd")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time on the directory of the first
		cmd := exec.Command("bash", filepath.Join(dir, "examples", "first-transaction.sh"), "dev", "127.0.0.1:0")
		cmd.Stdin = nil
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"verified  true", "verified  false", "TRANSLATION_FORBIDDEN", "POLICY_DENIED", "SEQ", "head ", "module 1", "separate-users", "wrong PIN, tries left: 2", "7 wait: VOIDED", "8 go on", `"done":true`} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%q is not in the story:\n%s", want, out)
			}
		}
	}
}
