package main

import (
	"context"
	"errors"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"keyd/development"
	"keyd/development/injecting"
)

// prepares makes c the command that makes a development service ready for something, with the
// development officers' keys.
func prepares(c *cobra.Command, do func(ctx context.Context, dir string, officers []injecting.Officer) ([]injecting.Step, error)) *cobra.Command {
	var out output
	var dir string
	c.Args = cobra.NoArgs
	out.flag(c)
	c.Flags().StringVar(&dir, "dir", "", "directory of the development service, which runs")
	if err := c.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return errors.Join(errors.New("there is no development service there: keyd dev makes one"), err)
		}
		var officers []injecting.Officer
		for _, name := range development.Officers {
			d := desk{conn: connection{dir: dir, as: name, timeout: deskTimeout}, key: signingKey{passphraseFD: -1}}
			s, err := d.sign(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			officers = append(officers, injecting.Officer{Client: s.Client, Conn: s.calls})
		}
		steps, err := do(cmd.Context(), dir, officers)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(steps)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		writeSteps(w, steps)
		return w.Flush()
	}
	return c
}

func writeSteps(w io.Writer, steps []injecting.Step) {
	for _, s := range steps {
		row(w, map[bool]string{true: "made", false: "was there"}[s.Done], s.What)
	}
}
