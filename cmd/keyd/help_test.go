package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Officers and auditors find their way by --help: every command of theirs has an example that begins
// with its own name, and no line of a help text is wider than a terminal.
func TestOfficersHelp(t *testing.T) {
	root := &cobra.Command{Use: "keyd"}
	root.AddCommand(officerCommand(), ceremonyCommand(), keyCommand(), initCommand(), auditCommand())
	terminal := &cobra.Command{Use: "terminal"}
	terminal.AddCommand(terminalInventory()...)
	terminal.AddCommand(terminalKeys()...)
	terminal.AddCommand(terminalSimulate())
	root.AddCommand(terminal)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len([]rune(line)) > 95 {
				t.Errorf("%s: a line of its help has %d characters: %s", c.CommandPath(), len([]rune(line)), line)
			}
		}
		if c.HasSubCommands() {
			return
		}
		if c.Short == "" || !strings.Contains(c.Example, "  "+c.CommandPath()) {
			t.Errorf("%s has no example of its own", c.CommandPath())
		}
		if c.Args == nil {
			t.Errorf("%s takes any arguments", c.CommandPath())
		}
	}
	for _, c := range root.Commands() {
		walk(c)
	}
}
