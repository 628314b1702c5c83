// Report makes the attempts of package abuse on a token of one's own and prints what comes of
// each. It makes and destroys keys, and logs in and out: the token must be one for trying, of
// the same make and settings as the one that is to serve. The PIN is a file's content.
//
//	go run ./hsm/module/internal/abuse/report -library /opt/vendor/lib.so -label TRY -pin-file FILE
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"keyd/hsm/module/internal/abuse"
	"keyd/hsm/module/internal/token"
)

func main() {
	library := flag.String("library", "", "the PKCS#11 `library`, an absolute path")
	parameters := flag.String("parameters", "", "what C_Initialize is given, where the library takes something (NSS softokn)")
	label := flag.String("label", "", "the token's `label`")
	pinFile := flag.String("pin-file", "", "the `file` that holds the user PIN")
	flag.Parse()
	if err := report(os.Stdout, *library, *parameters, *label, *pinFile); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(out io.Writer, library, parameters, label, pinFile string) (err error) {
	pin, err := os.ReadFile(pinFile)
	if err != nil {
		return err
	}
	pin = bytes.TrimRight(pin, "\r\n")
	defer clear(pin)
	loaded, err := token.Load(library, parameters)
	if err != nil {
		return err
	}
	h, err := abuse.Open(loaded, library, label, pin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	for _, c := range abuse.Chapters {
		if _, err := fmt.Fprintf(out, "\n%s\n", c.Title); err != nil {
			return err
		}
		for _, a := range c.Attempts {
			got, failed := h.Attempt(a)
			if failed != nil {
				got = failed.Error()
			}
			if _, err := fmt.Fprintf(out, "  %s\n      %s\n", a.Name, got); err != nil {
				return err
			}
		}
	}
	return nil
}
