package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
)

// pinMethod holds the flags of a way to verify a PIN.
type pinMethod struct {
	pvv, offset string
	ibm         bool
	index       int32
}

// valueFlags are for a method with its value.
func (m *pinMethod) valueFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&m.pvv, "pvv", "", "Visa PIN verification value, 4 digits")
	f.Int32Var(&m.index, "key-index", 1, "Visa PVKI, 0 to 9")
	f.StringVar(&m.offset, "offset", "", "IBM 3624 offset, 4 to 12 digits")
	c.MarkFlagsMutuallyExclusive("pvv", "offset")
	c.MarkFlagsOneRequired("pvv", "offset")
}

// kindFlags are for a method whose value is asked for.
func (m *pinMethod) kindFlags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&m.ibm, "ibm3624", false, "make an IBM 3624 offset; without this flag a Visa PVV")
	f.Int32Var(&m.index, "key-index", 1, "Visa PVKI, 0 to 9")
}

func (m *pinMethod) message() *keydv1.PinMethod {
	if m.ibm || m.offset != "" {
		return &keydv1.PinMethod{Method: &keydv1.PinMethod_Ibm3624{Ibm3624: &keydv1.Ibm3624{Offset: m.offset}}}
	}
	return &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: m.index, Pvv: m.pvv}}}
}

// methodRow writes the value to verify a PIN by.
func methodRow(w io.Writer, m *keydv1.PinMethod) {
	if v := m.GetVisaPvv(); v != nil {
		row(w, "PVV", v.GetPvv())
		row(w, "key index", fmt.Sprint(v.GetKeyIndex()))
	}
	if v := m.GetIbm3624(); v != nil {
		row(w, "offset", v.GetOffset())
	}
}

func callGenerate() *cobra.Command {
	var conn connection
	var out output
	var to pinKey
	var method pinMethod
	request := &keydv1.GeneratePinDataRequest{}
	c := &cobra.Command{
		Use:   "generate-pin",
		Short: "Make a random PIN: its block and the value to verify it by (PinService.GeneratePinData)",
		Example: `  keyd call generate-pin --dir ./dev --out-key zone-issuer --pan 4564320000980369 \
      --generation-key pvk-visa --length 6`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	to.flags(c, "out", "outgoing")
	method.kindFlags(c)
	f := c.Flags()
	f.StringVar(&request.PrimaryAccountNumber, "pan", "", "primary account number with its check digit")
	f.StringVar(&request.GenerationKeyId, "generation-key", "", "name of the generation key: V2 for a PVV, V1 for an offset")
	f.Int32Var(&request.PinLength, "length", 4, "of the PIN, 4 to 12 digits")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if request.Outgoing, err = to.message(); err != nil {
			return err
		}
		request.Method = method.message()
		answer, err := call(cmd, &conn, keydv1.NewPinServiceClient, keydv1.PinServiceClient.GeneratePinData, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "encrypted PIN block", fmt.Sprintf("%X", answer.EncryptedPinBlock))
			methodRow(w, answer.Datum)
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}

func callChange() *cobra.Command {
	var conn connection
	var out output
	var in, renewed pinKey
	var method pinMethod
	var current, next string
	request := &keydv1.ChangePinDataRequest{}
	c := &cobra.Command{
		Use:   "change-pin",
		Short: "Verify the current PIN and make the value of a new one (PinService.ChangePinData)",
		Long: `Prints whether the current PIN is right and, if it is, the value to verify the new one
by. A wrong PIN is an answer: the command ends with status 0.`,
		Example: `  keyd call change-pin --dir ./dev --in-key zone-issuer --pan 4564320000980369 \
      --current-block 85BC68E1BACA5ED5 --new-block 85BC68E1BACA5ED5 --verification-key pvk-visa --pvv 3856`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	in.flags(c, "in", "incoming")
	renewed.flags(c, "new-in", "new PIN's")
	c.Flags().Lookup("new-in-key").Usage += ", if it is not the incoming one or has a KSN of its own"
	method.valueFlags(c)
	f := c.Flags()
	f.StringVar(&request.PrimaryAccountNumber, "pan", "", "primary account number with its check digit")
	f.StringVar(&request.VerificationKeyId, "verification-key", "", "name of the verification key: V2 for a PVV, V1 for an offset")
	f.StringVar(&current, "current-block", "", "enciphered block of the current PIN, in hex or base64")
	f.StringVar(&next, "new-block", "", "enciphered block of the new PIN, in hex or base64")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if request.Incoming, err = in.message(); err != nil {
			return err
		}
		if renewed.name == "" {
			for _, name := range []string{"new-in-ksn", "new-in-working-key", "new-in-format"} {
				if cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s without --new-in-key: name the key of the new block too", name)
				}
			}
		} else {
			if request.NewIncoming, err = renewed.message(); err != nil {
				return err
			}
		}
		if request.CurrentEncryptedPinBlock, err = decodeBlock(current); err != nil {
			return err
		}
		if request.NewEncryptedPinBlock, err = decodeBlock(next); err != nil {
			return err
		}
		request.Current = method.message()
		answer, err := call(cmd, &conn, keydv1.NewPinServiceClient, keydv1.PinServiceClient.ChangePinData, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "verified", fmt.Sprint(answer.Verified))
			methodRow(w, answer.NewDatum)
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}
