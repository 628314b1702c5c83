package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// output is how a command prints its answer: a table for people or JSON for scripts.
type output struct{ format string }

func (o *output) flag(c *cobra.Command) {
	c.Flags().StringVarP(&o.format, "output", "o", "table", "table or json")
}

// json reports whether the answer is to be JSON.
func (o *output) json() (bool, error) {
	switch o.format {
	case "json":
		return true, nil
	case "table":
		return false, nil
	}
	return false, fmt.Errorf("--output is table or json, not %q", o.format)
}

// print writes a message: as JSON, or by table, which writes names and values.
func (o *output) print(m proto.Message, table func(io.Writer)) error {
	json, err := o.json()
	if err != nil {
		return err
	}
	if json {
		b, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
		if err != nil {
			return err
		}
		_, err = fmt.Println(string(b))
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// row writes one line of a table.
func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) } //nolint:errcheck // the table's Flush reports it
