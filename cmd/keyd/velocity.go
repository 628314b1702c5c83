package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/config"
	"keyd/development"
	"keyd/service"
)

func velocityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "velocity",
		GroupID: "service",
		Short:   "Give an account its tries back",
		Long: `How often the PIN of one account is verified or translated is limited per minute, hour
and day (velocity in the configuration). An account that has used up its tries waits, or
two people give them back: one at the machine permits it, another redeems the permit
with a client certificate. The account number is read from standard input.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(velocityPermit(), velocityReset())
	return c
}

func velocityPermit() *cobra.Command {
	var path, dir string
	var translations bool
	var valid time.Duration
	c := &cobra.Command{
		Use:   "permit",
		Short: "Permit one reset, at the machine, with the token's PIN",
		Long: `Permits the tries of one account to be reset once, beside the service that runs with this
configuration. It takes what starting the service takes: the same user, and the PIN of the
token. Nothing is reset until somebody redeems the permit with keyd velocity reset.

A development service limits tries only where it is told to (keyd dev --verify-limits).`,
		Example: `  keyd velocity permit --config /etc/keyd/keyd.yaml
  echo 4111111111111111 | keyd velocity permit --dir ./dev --valid 10m`,
		Args: noPAN,
	}
	f := c.Flags()
	f.StringVar(&path, "config", "", "configuration file of the service")
	f.StringVar(&dir, "dir", "", "directory of a development service, in place of --config")
	f.BoolVar(&translations, "translations", false, "for translations; without it for verifications")
	f.DurationVar(&valid, "valid", time.Hour, "how long the permit can be redeemed, 1m to 168h")
	c.MarkFlagsMutuallyExclusive("config", "dir")
	c.MarkFlagsOneRequired("config", "dir")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var loaded *config.Config
		var err error
		if dir != "" {
			loaded, err = development.Config(dir)
		} else {
			loaded, err = config.Load(path)
		}
		if err != nil {
			return err
		}
		pan, err := readPAN()
		if err != nil {
			return err
		}
		if err := service.Permit(cmd.Context(), loaded, service.Options{Development: dir != "", Log: logger()}, pan, translations, valid); err != nil {
			return err
		}
		fmt.Printf("one reset of the %s of %s is permitted until %s: keyd velocity reset redeems it\n", what(translations), lastDigits(pan), time.Now().Add(valid).UTC().Format(time.RFC3339))
		return nil
	}
	return c
}

func velocityReset() *cobra.Command {
	var conn connection
	var key string
	var translations bool
	c := &cobra.Command{
		Use:   "reset",
		Short: "Redeem a permit: the account's tries begin anew",
		Example: `  echo 4111111111111111 | keyd velocity reset --dir ./dev --as officer-1 --verification-key pvk-visa
  keyd velocity reset --server keyd.example:7443 --ca ca.crt --cert officer.crt --key officer.key --translations`,
		Args: noPAN,
	}
	conn.flags(c, "officer-1")
	c.Flags().StringVar(&key, "verification-key", "", "name of the V1 or V2 key whose verifications are reset")
	c.Flags().BoolVar(&translations, "translations", false, "reset the account's translations instead")
	c.MarkFlagsMutuallyExclusive("verification-key", "translations")
	c.MarkFlagsOneRequired("verification-key", "translations")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		pan, err := readPAN()
		if err != nil {
			return err
		}
		err = conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) error {
			v := keydv1.NewVelocityServiceClient(c)
			if translations {
				_, err := v.ResetTranslations(ctx, &keydv1.ResetTranslationsRequest{PrimaryAccountNumber: pan})
				return err
			}
			_, err := v.ResetVerifications(ctx, &keydv1.ResetVerificationsRequest{VerificationKeyId: key, PrimaryAccountNumber: pan})
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("the %s of %s begin anew\n", what(translations), lastDigits(pan))
		return nil
	}
	return c
}

func what(translations bool) string {
	if translations {
		return "translations"
	}
	return "verifications"
}

// lastDigits shows as much of an account number as a receipt does.
func lastDigits(pan string) string {
	return "…" + pan[max(0, len(pan)-4):]
}

// noPAN refuses arguments without repeating them.
func noPAN(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return errors.New("the account number is read from standard input, not from the command line")
	}
	return nil
}

// readPAN reads an account number: on a command line every user of the machine would
// see it.
func readPAN() (string, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(os.Stderr, "account number: ") //nolint:errcheck // a prompt
	}
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 64)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	pan := strings.TrimSpace(line)
	if len(pan) == 0 || len(pan) > 19 || strings.Trim(pan, "0123456789") != "" {
		return "", errors.New("standard input must hold an account number: 1 to 19 digits on one line")
	}
	return pan, nil
}
