package main

import (
	"errors"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"keyd/development"
	"keyd/development/injecting"
)

func simulatePrepare() *cobra.Command {
	var out output
	var dir string
	c := &cobra.Command{
		Use:   "prepare",
		Short: "Make a development service ready to give terminals keys",
		Long: `Does what operators and officers do for a service in production: it makes an authority of a
maker of terminals (DIR/maker) and one of key hosts (DIR/hosts), has the development officers
believe both and make two key pairs in the token, by the same ceremonies as elsewhere, has the
pairs certified, and adds the key hosts kdh-ec and kdh-rsa and the key sets dev-aes and
dev-tdes. What is there stays.`,
		Example: `  keyd terminal simulate prepare --dir ./dev`,
		Args:    cobra.NoArgs,
	}
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
		steps, err := injecting.Prepare(cmd.Context(), dir, officers)
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
