package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
)

// macKey holds the flags of a key that makes MACs.
type macKey struct {
	derived
	name, algorithm string
	padding         int32
}

func (k *macKey) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&k.name, "mac-key", "", "name of the key: M1, M3, M6, M7, or a BDK")
	f.StringVar(&k.algorithm, "algorithm", "cmac", "iso9797_algorithm1, iso9797_algorithm3, cmac or hmac_sha256")
	f.Int32Var(&k.padding, "padding", 0, "padding method of ISO 9797-1: 1 (default) or 2")
	k.derived.flags(c, "")
}

func (k *macKey) message() (*keydv1.MacKey, error) {
	algorithm, ok := keydv1.MacKey_Algorithm_value[strings.ToUpper(k.algorithm)]
	if !ok {
		return nil, fmt.Errorf("algorithm %q is unknown", k.algorithm)
	}
	dukpt, direction, err := k.derived.message()
	if err != nil {
		return nil, err
	}
	return &keydv1.MacKey{KeyId: k.name, Algorithm: keydv1.MacKey_Algorithm(algorithm), Dukpt: dukpt,
		Direction: keydv1.MacKey_Direction(direction), PaddingMethod: k.padding}, nil
}

func callGenerateMAC() *cobra.Command {
	var conn connection
	var out output
	var key macKey
	var message content
	var length int32
	c := &cobra.Command{
		Use:     "generate-mac",
		Short:   "Make the MAC of a message (MacService.GenerateMac)",
		Example: `  keyd call generate-mac --dir ./dev --mac-key mac-zone --algorithm iso9797_algorithm3 --message 4E6F7720`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	key.flags(c)
	message.flags(c, "message", "the message")
	c.Flags().Int32Var(&length, "length", 0, "of the MAC in bytes, 4 to the whole; 0 for the whole")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request := &keydv1.GenerateMacRequest{MacLength: length}
		if request.Key, err = key.message(); err != nil {
			return err
		}
		if request.Message, err = message.bytes(); err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewMacServiceClient, keydv1.MacServiceClient.GenerateMac, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "MAC", fmt.Sprintf("%X", answer.Mac))
			row(w, "key check value", answer.KeyCheckValue)
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}

func callVerifyMAC() *cobra.Command {
	var conn connection
	var out output
	var key macKey
	var message content
	var mac string
	c := &cobra.Command{
		Use:   "verify-mac",
		Short: "Verify the MAC of a message (MacService.VerifyMac)",
		Long: `Prints whether the MAC is the message's. A wrong one is an answer: the command ends with
status 0.`,
		Example: `  keyd call verify-mac --dir ./dev --mac-key mac-zone --algorithm iso9797_algorithm3 --message 4E6F7720 --mac FA58812E9DA576F7`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	key.flags(c)
	message.flags(c, "message", "the message")
	c.Flags().StringVar(&mac, "mac", "", "the MAC in hex, 4 bytes to the whole")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request := &keydv1.VerifyMacRequest{}
		if request.Key, err = key.message(); err != nil {
			return err
		}
		if request.Message, err = message.bytes(); err != nil {
			return err
		}
		if request.Mac, err = hex.DecodeString(mac); err != nil {
			return fmt.Errorf("MAC %q is not hex", mac)
		}
		answer, err := call(cmd, &conn, keydv1.NewMacServiceClient, keydv1.MacServiceClient.VerifyMac, request)
		if err != nil {
			return err
		}
		return out.print(answer, verdict(answer))
	}
	return c
}
