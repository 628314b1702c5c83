package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	keydv1 "keyd/api/keyd/v1"
	"keyd/simulator"
)

func simulateBind() *cobra.Command {
	var s simulated
	var m methodFlag
	c := &cobra.Command{
		Use:   "bind",
		Short: "Have the terminal check its key host, and by TR-34 be bound to it",
		Long: `Fetches the key host that keys come from, checks its certificate against the authorities that
the terminal believes, and keeps the newest revocation list. By TR-34 the terminal is bound to
this host then: no other's token counts. Do it again for a newer revocation list.`,
		Example: `  keyd terminal simulate bind --state t-0001.json --method tr34-two-pass --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	s.online(c)
	m.flag(c, "by which keys are to come: key-agreement, tr34-two-pass, tr34-one-pass")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		method, err := m.method()
		if err != nil {
			return err
		}
		var h *keydv1.KeyHost
		err = s.ask(cmd, func(ctx context.Context, c keydv1.TerminalServiceClient) (err error) {
			h, err = s.device().FetchHost(ctx, c, method)
			return err
		})
		if err != nil {
			return err
		}
		return s.out.print(h, func(w io.Writer) { writeKeyHost(w, h) })
	}
	return c
}

func simulateKeys() *cobra.Command {
	var s simulated
	var m methodFlag
	var curve, stop string
	var own []string
	var fresh, anew bool
	c := &cobra.Command{
		Use:   "keys",
		Short: "Have the terminal get its keys and confirm them",
		Long: `The terminal asks for keys, opens the answer, checks every key, keeps them in its file, and
confirms them. Run it again after anything that went wrong: keys that are there are confirmed
first, and a request by TR-34 that waits for its answer is sent again as it was.

In one-pass the request is the same each time, and so is the answer while it is pending. With
--anew keyd makes other keys; the terminal says so by itself when it took the time stamp of the
answer before.

--stop-at kills the process, as a loss of power does: before-send (the request is in the file),
after-answer (nothing of the answer is), after-store (the keys are, and are not confirmed).`,
		Example: `  keyd terminal simulate keys --state t-0001.json --method key-agreement --dir ./dev
  keyd terminal simulate keys --state t-0001.json --method tr34-two-pass --stop-at after-store --dir ./dev`,
		Args: cobra.NoArgs,
	}
	s.online(c)
	m.flag(c, "by which keys come: key-agreement, tr34-two-pass, tr34-one-pass")
	var steps []string
	for _, step := range simulator.Steps {
		steps = append(steps, string(step))
	}
	f := c.Flags()
	f.StringVar(&curve, "curve", "", "of key agreement: P-256, P-384, P-521 (default: the strongest that its key pair signs for)")
	f.StringSliceVar(&own, "own", nil, "initial key IDs of its own, in hex, in the order of the key set")
	f.BoolVar(&fresh, "fresh", false, "begin another request, whatever waits")
	f.BoolVar(&anew, "anew", false, "new keys, also where keyd has an answer to the same request")
	f.StringVar(&stop, "stop-at", "", "kill the terminal there: "+strings.Join(steps, ", "))
	completeFlag(c, "stop-at", steps...)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		method, err := m.method()
		if err != nil {
			return err
		}
		if stop != "" && !slices.Contains(steps, stop) {
			return fmt.Errorf("--stop-at is one of %s", strings.Join(steps, ", "))
		}
		o := simulator.FetchOptions{AskOptions: simulator.AskOptions{Fresh: fresh, Anew: anew}, At: func(at simulator.Step) error {
			if string(at) != stop {
				return nil
			}
			return unix.Kill(unix.Getpid(), unix.SIGKILL)
		}}
		if o.Curve, err = curveNamed(curve); err != nil {
			return err
		}
		for _, text := range own {
			id, err := hex.DecodeString(text)
			if err != nil {
				return fmt.Errorf("--own %q is not hex", text)
			}
			o.Own = append(o.Own, id)
		}
		return s.confirmed(cmd, func(ctx context.Context, c keydv1.TerminalServiceClient) (*keydv1.Injection, error) {
			return s.device().FetchKeys(ctx, c, method, o)
		})
	}
	return c
}

// confirmed prints an injection that keyd has confirmed.
func (s *simulated) confirmed(cmd *cobra.Command, get func(context.Context, keydv1.TerminalServiceClient) (*keydv1.Injection, error)) error {
	var i *keydv1.Injection
	err := s.ask(cmd, func(ctx context.Context, c keydv1.TerminalServiceClient) (err error) {
		i, err = get(ctx, c)
		return err
	})
	if err != nil {
		return err
	}
	return s.out.print(i, func(w io.Writer) { writeInjection(w, i) })
}

func simulateConfirm() *cobra.Command {
	var s simulated
	c := &cobra.Command{
		Use:   "confirm",
		Short: "Have the terminal send its receipt",
		Long: `Sends the receipt of the keys that the terminal has got last, also of those that were confirmed
before: the same receipt may come again.`,
		Example: `  keyd terminal simulate confirm --state t-0001.json --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	s.online(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return s.confirmed(cmd, func(ctx context.Context, c keydv1.TerminalServiceClient) (*keydv1.Injection, error) {
			return s.device().Confirm(ctx, c)
		})
	}
	return c
}

func simulateSignIn() *cobra.Command {
	var s simulated
	c := &cobra.Command{
		Use:   "sign-in",
		Short: "Have the terminal sign in and take its session keys",
		Long: `The terminal signs in (签到): it gets session keys under its master key, opens them, and compares
their check values.`,
		Example: `  keyd terminal simulate sign-in --state t-0001.json --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	s.online(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var a *keydv1.SignInResponse
		err := s.ask(cmd, func(ctx context.Context, c keydv1.TerminalServiceClient) (err error) {
			a, err = s.device().FetchSession(ctx, c)
			return err
		})
		if err != nil {
			return err
		}
		return s.out.print(a, func(w io.Writer) {
			row(w, "NAME", "KEY", "USAGE", "FORM", "CHECK VALUE", "UNTIL (UTC)")
			for _, k := range a.Keys {
				form := "key block"
				if k.GetCryptogram() != nil {
					form = "bare cryptogram (outside PCI PIN 18-3)"
				}
				row(w, printable(k.Name), printable(k.KeyId), printable(k.Usage), form, printable(k.KeyCheckValue), moment(k.NotAfter))
			}
		})
	}
	return c
}
