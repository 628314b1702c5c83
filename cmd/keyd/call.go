package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
)

func callCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "call",
		GroupID: "client",
		Short:   "Call a data operation as a switch or an issuer host does",
		Long: `Each command makes one gRPC call with the client certificate named and prints the
answer. A refusal ends with status 3 and its reason (docs/errors.md), a service that
does not answer with status 4.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(
		callTranslate(), callVerify(), callGenerate(), callChange(),
		callGenerateMAC(), callVerifyMAC(),
		callEncrypt(), callDecrypt(), callReEncrypt(), callGenerateCVV(), callVerifyCVV(),
	)
	return c
}

// pinKey holds the flags of a key that enciphers a PIN block.
type pinKey struct{ name, ksn, working, format string }

func (k *pinKey) flags(c *cobra.Command, prefix, what string) {
	f := c.Flags()
	f.StringVar(&k.name, prefix+"-key", "", "name of the "+what+" key")
	f.StringVar(&k.ksn, prefix+"-ksn", "", "key serial number in hex, if the "+what+" key is a BDK")
	f.StringVar(&k.working, prefix+"-working-key", "", "working key of an AES BDK: AES_128 (default), AES_192, AES_256, TDES_2KEY, TDES_3KEY")
	f.StringVar(&k.format, prefix+"-format", "0", "ISO 9564-1 format of the "+what+" block: 0, 1, 3 or 4")
}

func (k *pinKey) message() (*keydv1.PinKey, error) {
	format, ok := keydv1.PinBlockFormat_value["ISO_FORMAT_"+strings.TrimPrefix(strings.ToUpper(k.format), "ISO_FORMAT_")]
	if !ok {
		return nil, fmt.Errorf("format %q is none of 0, 1, 2, 3, 4", k.format)
	}
	m := &keydv1.PinKey{KeyId: k.name, Format: keydv1.PinBlockFormat(format)}
	if k.ksn == "" {
		if k.working != "" {
			return nil, errors.New("a working key belongs to a BDK: give its KSN too")
		}
		return m, nil
	}
	var err error
	m.Dukpt, err = transaction(k.ksn, k.working)
	return m, err
}

// transaction returns a DUKPT transaction of its key serial number in hex and the type of
// its working key, which may be empty.
func transaction(serial, working string) (*keydv1.DukptAttributes, error) {
	ksn, err := hex.DecodeString(serial)
	if err != nil {
		return nil, fmt.Errorf("KSN %q is not hex", serial)
	}
	m := &keydv1.DukptAttributes{KeySerialNumber: ksn}
	if working == "" {
		return m, nil
	}
	kind, ok := keydv1.DukptAttributes_KeyType_value[strings.ToUpper(working)]
	if !ok {
		return nil, fmt.Errorf("working key %q is unknown", working)
	}
	m.KeyType = keydv1.DukptAttributes_KeyType(kind)
	return m, nil
}

func callTranslate() *cobra.Command {
	var conn connection
	var out output
	var in, to pinKey
	var pan, block string
	c := &cobra.Command{
		Use:   "translate-pin",
		Short: "Re-encipher a PIN block under another key (PinService.TranslatePinData)",
		Example: `  keyd call translate-pin --dir ./dev --in-key bdk-tdes --in-ksn FFFF9876543210E00001 \
      --out-key zone-issuer --pan 4012345678909 --block 1B9C1845EB993A7A`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	in.flags(c, "in", "incoming")
	to.flags(c, "out", "outgoing")
	c.Flags().StringVar(&pan, "pan", "", "primary account number with its check digit")
	c.Flags().StringVar(&block, "block", "", "enciphered PIN block in hex, or in base64 as in JSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		request := &keydv1.TranslatePinDataRequest{PrimaryAccountNumber: pan}
		var err error
		if request.Incoming, err = in.message(); err != nil {
			return err
		}
		if request.Outgoing, err = to.message(); err != nil {
			return err
		}
		if request.EncryptedPinBlock, err = decodeBlock(block); err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewPinServiceClient, keydv1.PinServiceClient.TranslatePinData, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "encrypted PIN block", fmt.Sprintf("%X", answer.EncryptedPinBlock))
			row(w, "key check value", answer.KeyCheckValue)
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}

func callVerify() *cobra.Command {
	var conn connection
	var out output
	var in pinKey
	var method pinMethod
	var pan, block, key string
	c := &cobra.Command{
		Use:   "verify-pin",
		Short: "Verify the PIN in a block (PinService.VerifyPinData)",
		Long: `Prints whether the PIN in the block is the one of a Visa PVV or an IBM 3624 offset. A
wrong PIN is an answer: the command ends with status 0.`,
		Example: `  keyd call verify-pin --dir ./dev --in-key zone-issuer --pan 4564320000980369 \
      --block 85BC68E1BACA5ED5 --verification-key pvk-visa --key-index 1 --pvv 3856`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	in.flags(c, "in", "incoming")
	f := c.Flags()
	f.StringVar(&pan, "pan", "", "primary account number with its check digit")
	f.StringVar(&block, "block", "", "enciphered PIN block in hex, or in base64 as in JSON")
	f.StringVar(&key, "verification-key", "", "name of the verification key: V2 for a PVV, V1 for an offset")
	method.valueFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		request := &keydv1.VerifyPinDataRequest{PrimaryAccountNumber: pan, VerificationKeyId: key}
		var err error
		if request.Incoming, err = in.message(); err != nil {
			return err
		}
		if request.EncryptedPinBlock, err = decodeBlock(block); err != nil {
			return err
		}
		request.Expected = method.message()
		answer, err := call(cmd, &conn, keydv1.NewPinServiceClient, keydv1.PinServiceClient.VerifyPinData, request)
		if err != nil {
			return err
		}
		return out.print(answer, verdict(answer))
	}
	return c
}

// decodeBlock reads a PIN block in hex or base64. No block of 8 or 16 bytes is both.
func decodeBlock(text string) ([]byte, error) {
	if strings.HasSuffix(text, "=") {
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			return b, nil
		}
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("block %q is neither hex nor base64", text)
	}
	return b, nil
}

// call makes one call of a client of the contract.
func call[C, Q, A any](cmd *cobra.Command, conn *connection, client func(grpc.ClientConnInterface) C, method func(C, context.Context, Q, ...grpc.CallOption) (A, error), request Q) (answer A, err error) {
	err = conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
		answer, err = method(client(c), ctx, request)
		return err
	})
	return answer, err
}

// verdict writes the answer to a verification.
func verdict(answer interface {
	GetVerified() bool
	GetCustody() keydv1.Custody
}) func(io.Writer) {
	return func(w io.Writer) {
		row(w, "verified", fmt.Sprint(answer.GetVerified()))
		row(w, "custody", answer.GetCustody().String())
	}
}

// call dials, calls and hangs up.
func (c *connection) call(ctx context.Context, do func(context.Context, grpc.ClientConnInterface) error) error {
	conn, config, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the answer is there
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.why(ctx, config, do(ctx, conn))
}
