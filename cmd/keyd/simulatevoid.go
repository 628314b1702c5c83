package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinblock"
	"keyd/simulator"
)

// counterFlags are a void at the counter, as the simulated terminal plays it.
type counterFlags struct {
	conn               connection
	state, codeFile    string
	toSwitch, tokenOut string
	stop               string
	format             int
	yes                bool
	facts              payment
	card               cardholder
	counter            simulator.Counter
}

func simulateVoid() *cobra.Command {
	var f counterFlags
	c := &cobra.Command{
		Use:   "void",
		Short: "Void a payment at the counter, in eight steps",
		Long: `The terminal plays the eight steps of docs/merchant.md and says what its display shows: it
scans the code (--code FILE, or a line of standard input), shows the amount, has the
supervisor's PIN typed (without echo from a terminal, else a line of standard input; an empty
one is Cancel), and the cardholder's where the amount needs it, has the void confirmed, sends
it, waits for "Voided" and prints the slip. After a wrong PIN it asks again. Where nobody can
type a PIN it waits for an approval from elsewhere (keyd void approve), if that suffices. With
--phone the code is the address of keyd's page, on which a supervisor approves.

With --switch it talks to a switch (examples/switch-void), with its own certificate; the switch
says what it knows of the payment, and reverses it. Without, it talks to keyd as the switch,
and says itself what a switch knows; the void token is written to --token-out, and the word of
the switch is keyd void confirm.

What it sends is in its file before. Stopped at any point, it goes on when it is started again.
--stop-at kills the process: before-send (the PINs are enciphered and confirmed, and not sent),
after-answer.`,
		Example: `  keyd terminal simulate void --state t-0001.json --code code --supervisor dora --switch 127.0.0.1:7453 --dir ./dev
  keyd terminal simulate void --state t-0001.json --payment pay-0001 --supervisor dora --switch 127.0.0.1:7453 --lang zh --dir ./dev
  keyd terminal simulate void --state t-0001.json --payment pay-0002 --phone --switch 127.0.0.1:7453 --dir ./dev
  keyd terminal simulate void --state t-0001.json --supervisor dora --merchant m-17 --amount 12300 --token-out token --dir ./dev`,
		Args: cobra.NoArgs,
	}
	f.flags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) }
	return c
}

func (f *counterFlags) flags(c *cobra.Command) {
	f.conn.flags(c, "switch")
	f.facts.optional(c)
	f.card.flags(c)
	f.conn.own = func() (tls.Certificate, error) { return simulator.OpenDevice(f.state).TLSCertificate() }
	set := c.Flags()
	set.StringVar(&f.state, "state", "", "the terminal's state file")
	set.StringVar(&f.toSwitch, "switch", "", "HOST:PORT of a switch, in place of keyd")
	set.StringVar(&f.codeFile, "code", "", "file with the code that is scanned (default: a line of standard input)")
	set.StringVar(&f.counter.Payment, "payment", "", "reference of a payment that is found on the terminal, whose code it shows and scans")
	set.BoolVar(&f.counter.Phone, "phone", false, "with --payment: show the code for a supervisor's phone, and wait until it is approved there")
	set.StringVar(&f.counter.Supervisor, "supervisor", "", "the supervisor who is in the shop")
	set.BoolVar(&f.counter.OfTerminal, "of-terminal", false, "the supervisor's PIN is for this terminal alone (default: for every one of the merchant)")
	set.IntVar(&f.format, "format", -1, "ISO 9564-1 format of the PIN blocks: 0 or 3 under TDES, 4 under AES (default: 0 or 4)")
	set.BoolVar(&f.counter.Session, "session", false, "the cardholder's PIN under the keys of the last sign-in; a supervisor's never comes under them")
	set.StringVar(&f.counter.Language, "lang", "en", "of the display: "+strings.Join(simulator.Languages, ", "))
	set.BoolVar(&f.yes, "yes", false, "confirm without being asked")
	set.StringVar(&f.tokenOut, "token-out", "", "without --switch: file that is made for the void token (default: standard output)")
	set.DurationVar(&f.counter.Patience, "patience", 30*time.Second, "how long the same is sent again where nobody answers")
	set.StringVar(&f.stop, "stop-at", "", "kill the terminal there: before-send, after-answer")
	c.MarkFlagsMutuallyExclusive("code", "payment")
	completeFlag(c, "lang", simulator.Languages...)
	completeFlag(c, "stop-at", string(simulator.BeforeSend), string(simulator.AfterAnswer))
	if err := c.MarkFlagRequired("state"); err != nil {
		panic(err) // the flag is defined above
	}
}

func (f *counterFlags) run(ctx context.Context) error {
	if err := f.check(); err != nil {
		return err
	}
	conn, config, err := f.conn.dial()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the answers are there
	c := &f.counter
	c.Device, c.Service, c.Timeout, c.Display = simulator.OpenDevice(f.state), keydv1.NewVoidServiceClient(conn), f.conn.timeout, os.Stdout
	c.Connect = func(ctx context.Context) error { return connected(ctx, conn, f.conn.timeout) }
	c.Scan, c.Type, c.Confirm = f.scan, func() ([]byte, error) { return keypad{}.secret("PIN") }, f.confirm
	c.At = func(at simulator.Step) error {
		if string(at) != f.stop {
			return nil
		}
		return unix.Kill(unix.Getpid(), unix.SIGKILL)
	}
	err = c.Run(ctx)
	var not *simulator.NotVoided
	if errors.As(err, &not) {
		return exitError{err, exitRefused}
	}
	if _, ok := status.FromError(err); ok {
		return f.conn.why(ctx, config, err)
	}
	return err
}

// check reads the flags.
func (f *counterFlags) check() error {
	if f.stop != "" && !slices.Contains([]string{string(simulator.BeforeSend), string(simulator.AfterAnswer)}, f.stop) {
		return errors.New("--stop-at is before-send or after-answer")
	}
	if f.counter.Phone && f.counter.Payment == "" {
		return errors.New("--phone shows the code of a payment that is found on the terminal: --payment")
	}
	if f.format >= 0 {
		format := pinblock.Format(f.format & 0xff)
		if f.format != int(format) || !format.Valid() || format == pinblock.ISO1 {
			return errors.New("--format is 0 or 3 under TDES, and 4 under AES")
		}
		f.counter.Format = &format
	}
	f.counter.PAN = f.card.pan
	if f.toSwitch != "" {
		if f.facts.merchant != "" || f.facts.amount != 0 || f.card.key != "" || f.tokenOut != "" {
			return errors.New("a switch knows the payment, what the card's PIN is verified by, and what to do with the token: leave --merchant, --amount, --verification-key and --token-out out, or --switch")
		}
		f.conn.server, f.conn.as = f.toSwitch, ""
		return nil
	}
	if f.facts.merchant == "" || f.facts.amount == 0 {
		return errors.New("name the switch with --switch, or say with --merchant and --amount what a switch knows of the payment")
	}
	said, err := f.facts.message()
	if err != nil {
		return err
	}
	direct := &simulator.Direct{Facts: said, Token: f.token}
	if direct.Cardholder, err = f.card.message(); err != nil {
		return err
	}
	f.counter.Direct = direct
	return nil
}

// connected waits for a connection, so that the terminal says at once that it has none.
func connected(ctx context.Context, conn *grpc.ClientConn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		conn.Connect()
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if !conn.WaitForStateChange(ctx, state) {
			return status.Error(codes.Unavailable, "there is no connection: call the acquirer, without it nothing can be voided")
		}
	}
}

func (f *counterFlags) scan() (string, error) {
	if f.codeFile == "" {
		return keypad{}.line("code")
	}
	text, err := readBounded(f.codeFile, maxTyped)
	return strings.TrimRight(string(text), "\r\n"), err
}

func (f *counterFlags) confirm() (bool, error) {
	if f.yes {
		return true, nil
	}
	answer, err := keypad{}.line("y/n")
	return strings.EqualFold(answer, "y"), err
}

// token takes the token to where the switch gets it from.
func (f *counterFlags) token(token string) error {
	if f.tokenOut == "" {
		_, err := fmt.Println("token  " + printable(token))
		return err
	}
	// Again where a terminal was stopped: the same token.
	return simulator.WriteFile(f.tokenOut, []byte(token+"\n"), 0o600)
}
