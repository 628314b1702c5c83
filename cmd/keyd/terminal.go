package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"keyd/pinblock"
	"keyd/simulator"
)

func terminalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "terminal",
		GroupID: "client",
		Short:   "The inventory of payment terminals, and a simulated one",
		Args:    cobra.NoArgs,
		RunE:    needsSubcommand,
	}
	c.AddCommand(terminalEncryptPIN(), terminalToken(), terminalSimulate())
	c.AddCommand(terminalInventory()...)
	c.AddCommand(terminalKeys()...)
	return c
}

func terminalEncryptPIN() *cobra.Command {
	var state, pan string
	var out output
	var format uint8
	c := &cobra.Command{
		Use:   "encrypt-pin",
		Short: "Encipher a PIN under the next DUKPT key, as a PIN pad does",
		Long: `Reads a PIN (without echo from a terminal, else one line of standard input), enciphers
it under the next key of the terminal's DUKPT registers and prints the KSN and the PIN
block. The registers advance: no key is used twice.`,
		Example: `  echo 1234 | keyd terminal encrypt-pin --state ./dev/terminals/tdes.json --pan 4012345678909`,
		Args:    cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&state, "state", "", "file with the terminal's key registers")
	f.StringVar(&pan, "pan", "", "primary account number with its check digit")
	f.Uint8Var(&format, "format", 0, "ISO 9564-1 format: 0 or 3 for a TDES terminal, 4 for an AES terminal")
	out.flag(c)
	for _, name := range []string{"state", "pan"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(*cobra.Command, []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		pin, err := readPIN()
		defer clear(pin)
		if err != nil {
			return err
		}
		block, err := simulator.Open(state).EncryptPIN(pinblock.Format(format), pan, pin)
		if err != nil {
			return err
		}
		if asJSON { // bytes are base64, as in the contract
			return json.NewEncoder(os.Stdout).Encode(map[string]any{
				"key_serial_number": block.KSN.Bytes(), "key_type": block.WorkingType.String(),
				"format": "ISO_FORMAT_" + strings.TrimPrefix(block.Format.String(), "ISO-"), "encrypted_pin_block": block.Block,
			})
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		row(w, "KSN", block.KSN.String())
		row(w, "format", block.Format.String())
		row(w, "encrypted PIN block", fmt.Sprintf("%X", block.Block))
		return w.Flush()
	}
	return c
}

// readPIN reads a PIN without echo from a terminal, or one line of standard input.
func readPIN() ([]byte, error) {
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		fmt.Fprint(os.Stderr, "PIN: ")
		pin, err := term.ReadPassword(fd)
		fmt.Fprintln(os.Stderr)
		return pin, err
	}
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 64)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line, nil
}
