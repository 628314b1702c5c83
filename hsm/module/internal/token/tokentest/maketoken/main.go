// Maketoken initialises a token of a library for tests: nss-config/with-nss.sh runs it, since
// NSS softokn has no tool of its own that a test would want to depend on. The PIN comes
// through standard input, without a newline, so that no command line shows it.
//
//	maketoken LIBRARY PARAMETERS LABEL <PIN
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"keyd/hsm/module/internal/token"
)

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "maketoken:", err)
		os.Exit(1)
	}
}

func run(arguments []string, in io.Reader) error {
	if len(arguments) != 3 {
		return errors.New("usage: maketoken LIBRARY PARAMETERS LABEL <PIN")
	}
	pin, err := io.ReadAll(io.LimitReader(in, 256))
	if err != nil {
		return err
	}
	library, err := token.Load(arguments[0], arguments[1])
	if err != nil {
		return err
	}
	return library.InitToken(arguments[2], string(pin))
}
