package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/simulator"
)

// pinPad holds the flags of the simulated terminal at which a PIN is entered.
type pinPad struct {
	state, key string
	format     uint8
}

func (p *pinPad) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.state, "state", "", "file with the key registers of the simulated terminal")
	f.StringVar(&p.key, "bdk", "", "the terminal's base derivation key, one for such PINs (pin_kind record)")
	f.Uint8Var(&p.format, "format", 4, "ISO 9564-1 format: 0 or 3 for a TDES terminal, 4 for an AES terminal")
	for _, name := range []string{"state", "bdk"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
}

// enter enciphers what was typed for a subject's number, as a PIN pad does.
func (p *pinPad) enter(number string, digits []byte) (*keydv1.PinEntry, error) {
	b, err := simulator.Open(p.state).EncryptPIN(pinblock.Format(p.format), number, digits)
	if err != nil {
		return nil, err
	}
	incoming, err := p.incoming(&b)
	return &keydv1.PinEntry{Incoming: incoming, EncryptedPinBlock: b.Block}, err
}

// bound is enter for a number or a PAN, with the MAC that binds the PIN to a void. Whose it is remains
// to be said.
func (p *pinPad) bound(number string, digits []byte, digest [sha256.Size]byte) (*keydv1.VoidPinEntry, error) {
	b, err := simulator.Open(p.state).EncryptBoundPIN(pinblock.Format(p.format), number, digits, func(block []byte) []byte { return pinrecord.Bound(digest, block, true) })
	if err != nil {
		return nil, err
	}
	incoming, err := p.incoming(&b.PINBlock)
	if err != nil {
		return nil, err
	}
	return &keydv1.VoidPinEntry{
		Incoming: incoming, EncryptedPinBlock: b.Block,
		MacKey: &keydv1.MacKey{KeyId: p.key, Algorithm: keydv1.MacKey_CMAC, Dukpt: incoming.Dukpt, Direction: keydv1.MacKey_REQUEST}, Mac: b.MAC,
	}, nil
}

// incoming names the key of a block.
func (p *pinPad) incoming(b *simulator.PINBlock) (*keydv1.PinKey, error) {
	kind, ok := keydv1.DukptAttributes_KeyType_value[strings.ReplaceAll(strings.ToUpper(b.WorkingType.String()), "-", "_")]
	if !ok {
		return nil, fmt.Errorf("the contract has no key type %s", b.WorkingType)
	}
	return &keydv1.PinKey{
		KeyId: p.key, Format: keydv1.PinBlockFormat(p.format + 1),
		Dukpt: &keydv1.DukptAttributes{KeySerialNumber: b.KSN.Bytes(), KeyType: keydv1.DukptAttributes_KeyType(kind)},
	}, nil
}

// readPINs reads what is typed without echo, one after the other, or lines of standard input.
func readPINs(labels ...string) (list [][]byte, err error) {
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		for _, label := range labels {
			fmt.Fprint(os.Stderr, label+": ")
			pin, err := term.ReadPassword(fd)
			fmt.Fprintln(os.Stderr)
			if err != nil {
				return list, err
			}
			list = append(list, pin)
		}
		return list, nil
	}
	lines := bufio.NewReader(io.LimitReader(os.Stdin, 256))
	for range labels {
		line, err := lines.ReadBytes('\n')
		if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
			return list, fmt.Errorf("standard input has a line each for: %s", strings.Join(labels, ", "))
		}
		for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
			line = line[:len(line)-1]
		}
		list = append(list, line)
	}
	return list, nil
}

// enterer is a command at whose terminal PINs are typed.
func enterer(c *cobra.Command, labels []string, send func(cmd *cobra.Command, conn *connection, out *output, s *keydv1.PinSubject, entries []*keydv1.PinEntry) error) *cobra.Command {
	var conn connection
	var out output
	var whose subject
	var pad pinPad
	conn.flags(c, "switch")
	out.flag(c)
	whose.flags(c)
	pad.flags(c)
	c.Args = cobra.NoArgs
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := whose.message()
		if err != nil {
			return err
		}
		r, err := whose.record()
		if err != nil {
			return err
		}
		typed, err := readPINs(labels...)
		defer func() {
			for _, pin := range typed {
				clear(pin)
			}
		}()
		if err != nil {
			return err
		}
		var entries []*keydv1.PinEntry
		for _, pin := range typed {
			e, err := pad.enter(r.Number(), pin)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return send(cmd, &conn, &out, s, entries)
	}
	return c
}

func pinSet() *cobra.Command {
	return enterer(&cobra.Command{
		Use:   "set",
		Short: "Set a PIN with the code, as its subject at a simulated terminal",
		Long: `Reads the code of 8 digits and then the PIN (without echo from a terminal, else two lines of
standard input), enciphers both as the terminal's PIN pad does, and sends them.`,
		Example: `  keyd pin set --merchant m-17 --name dora --state ./dev/terminals/supervisor.json --bdk bdk-supervisor --dir ./dev`,
	}, []string{"Code", "PIN"}, func(cmd *cobra.Command, conn *connection, out *output, s *keydv1.PinSubject, e []*keydv1.PinEntry) error {
		a, err := call(cmd, conn, keydv1.NewPinRecordServiceClient, keydv1.PinRecordServiceClient.SetPin, &keydv1.SetPinRequest{Subject: s, Code: e[0], Pin: e[1]})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			row(w, "verified", fmt.Sprint(a.Verified))
			if a.Record != nil {
				pinTable(a.Record)(w)
			}
		})
	})
}

func pinVerify() *cobra.Command {
	return enterer(&cobra.Command{
		Use:   "verify",
		Short: "Verify a PIN, entered at a simulated terminal",
		Long: `Reads the PIN (without echo from a terminal, else one line of standard input), enciphers it as the
terminal's PIN pad does, and has it verified. Each wrong one costs a try.`,
		Example: `  keyd pin verify --merchant m-17 --name dora --state ./dev/terminals/supervisor.json --bdk bdk-supervisor --dir ./dev`,
	}, []string{"PIN"}, func(cmd *cobra.Command, conn *connection, out *output, s *keydv1.PinSubject, e []*keydv1.PinEntry) error {
		a, err := call(cmd, conn, keydv1.NewPinRecordServiceClient, keydv1.PinRecordServiceClient.VerifyPin, &keydv1.VerifyPinRequest{Subject: s, Pin: e[0]})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { row(w, "verified", fmt.Sprint(a.Verified)) })
	})
}

func pinChange() *cobra.Command {
	return enterer(&cobra.Command{
		Use:   "change",
		Short: "Change a PIN, by who knows it, at a simulated terminal",
		Long: `Reads the current PIN and then the new one (without echo from a terminal, else two lines of
standard input), enciphers both as the terminal's PIN pad does, and sends them.`,
		Example: `  keyd pin change --merchant m-17 --name dora --state ./dev/terminals/supervisor.json --bdk bdk-supervisor --dir ./dev`,
	}, []string{"Current PIN", "New PIN"}, func(cmd *cobra.Command, conn *connection, out *output, s *keydv1.PinSubject, e []*keydv1.PinEntry) error {
		a, err := call(cmd, conn, keydv1.NewPinRecordServiceClient, keydv1.PinRecordServiceClient.ChangePin, &keydv1.ChangePinRequest{Subject: s, Current: e[0], Pin: e[1]})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { row(w, "verified", fmt.Sprint(a.Verified)) })
	})
}
