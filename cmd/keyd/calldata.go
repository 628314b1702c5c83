package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
)

// derived holds the flags of a key that is a BDK.
type derived struct{ ksn, working, direction string }

func (d *derived) flags(c *cobra.Command, prefix string) {
	f := c.Flags()
	f.StringVar(&d.ksn, prefix+"ksn", "", "key serial number in hex, if the key is a BDK")
	f.StringVar(&d.working, prefix+"working-key", "", "working key of an AES BDK: AES_128 (default), AES_192, AES_256, TDES_2KEY, TDES_3KEY")
	f.StringVar(&d.direction, prefix+"direction", "", "request (from the terminal) or response (to it), if the key is a BDK")
}

// message returns the transaction and its direction, nil and 0 for a key that is no BDK.
func (d *derived) message() (*keydv1.DukptAttributes, int32, error) {
	if d.ksn == "" {
		if d.working != "" || d.direction != "" {
			return nil, 0, errors.New("a working key and a direction belong to a BDK: give its KSN too")
		}
		return nil, 0, nil
	}
	m, err := transaction(d.ksn, d.working)
	if err != nil {
		return nil, 0, err
	}
	direction, ok := keydv1.MacKey_Direction_value[strings.ToUpper(d.direction)]
	if !ok || direction == 0 {
		return nil, 0, fmt.Errorf("direction %q is neither request nor response", d.direction)
	}
	return m, direction, nil
}

// content is what a command works on: bytes of a file, or of standard input. They are no
// argument, since those are seen by everybody on the machine.
type content struct{ file, hex string }

func (m *content) flags(c *cobra.Command, name, what string) {
	f := c.Flags()
	f.StringVar(&m.file, name+"-file", "", "file with "+what+", or - for standard input")
	f.StringVar(&m.hex, name, "", what+" in hex, where it is no secret")
	c.MarkFlagsMutuallyExclusive(name, name+"-file")
	c.MarkFlagsOneRequired(name, name+"-file")
}

// maxContent bounds what is read, in bytes; the service takes less.
const maxContent = 1 << 20

func (m *content) bytes() ([]byte, error) {
	if m.file == "" {
		b, err := hex.DecodeString(m.hex)
		if err != nil {
			return nil, errors.New("the content is not hex")
		}
		return b, nil
	}
	if m.file == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxContent))
	}
	f, err := os.Open(m.file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, maxContent))
}

// dataKey holds the flags of a key that enciphers data.
type dataKey struct {
	derived
	name, mode string
}

func (k *dataKey) flags(c *cobra.Command, prefix string) {
	f := c.Flags()
	name := prefix + "key"
	if prefix == "" {
		name = "data-key" // --key is the client's own
	}
	f.StringVar(&k.name, name, "", "name of the key: D0, or a BDK")
	f.StringVar(&k.mode, prefix+"mode", "cbc", "cbc, or ctr for AES")
	k.derived.flags(c, prefix)
}

func (k *dataKey) message() (*keydv1.DataKey, error) {
	mode, ok := keydv1.DataKey_Mode_value[strings.ToUpper(k.mode)]
	if !ok {
		return nil, fmt.Errorf("mode %q is neither cbc nor ctr", k.mode)
	}
	dukpt, direction, err := k.derived.message()
	if err != nil {
		return nil, err
	}
	return &keydv1.DataKey{KeyId: k.name, Mode: keydv1.DataKey_Mode(mode), Dukpt: dukpt, Direction: keydv1.DataKey_Direction(direction)}, nil
}

// decodeIV reads an initialization vector in hex, which may be empty.
func decodeIV(text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("initialization vector %q is not hex", text)
	}
	return b, nil
}

func callEncrypt() *cobra.Command {
	var conn connection
	var out output
	var key dataKey
	var plain content
	var iv string
	c := &cobra.Command{
		Use:   "encrypt-data",
		Short: "Encipher data that are neither a PIN nor a key (DataService.EncryptData)",
		Long: `Prints the ciphertext and its initialization vector. Nothing is padded: in CBC mode the
data are whole blocks.`,
		Example: `  keyd call encrypt-data --dir ./dev --data-key data-zone --mode ctr --plaintext-file track.bin`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	key.flags(c, "")
	plain.flags(c, "plaintext", "the data")
	c.Flags().StringVar(&iv, "iv", "", "CBC: initialization vector in hex; a random one if unset")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request := &keydv1.EncryptDataRequest{}
		if request.Key, err = key.message(); err != nil {
			return err
		}
		if request.Plaintext, err = plain.bytes(); err != nil {
			return err
		}
		if request.InitializationVector, err = decodeIV(iv); err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewDataServiceClient, keydv1.DataServiceClient.EncryptData, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "ciphertext", fmt.Sprintf("%X", answer.Ciphertext))
			row(w, "initialization vector", fmt.Sprintf("%X", answer.InitializationVector))
			row(w, "key check value", answer.KeyCheckValue)
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}

func callDecrypt() *cobra.Command {
	var conn connection
	var out output
	var key dataKey
	var ciphertext content
	var iv string
	c := &cobra.Command{
		Use:     "decrypt-data",
		Short:   "Decipher data that are neither a PIN nor a key (DataService.DecryptData)",
		Example: `  keyd call decrypt-data --dir ./dev --data-key data-zone --iv 00112233445566778899AABBCCDDEEFF --ciphertext-file track.enc`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	key.flags(c, "")
	ciphertext.flags(c, "ciphertext", "the enciphered data")
	c.Flags().StringVar(&iv, "iv", "", "initialization vector in hex; CTR: the first counter block")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request := &keydv1.DecryptDataRequest{}
		if request.Key, err = key.message(); err != nil {
			return err
		}
		if request.Ciphertext, err = ciphertext.bytes(); err != nil {
			return err
		}
		if request.InitializationVector, err = decodeIV(iv); err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewDataServiceClient, keydv1.DataServiceClient.DecryptData, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "plaintext", fmt.Sprintf("%X", answer.Plaintext))
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}

func callReEncrypt() *cobra.Command {
	var conn connection
	var out output
	var in, to dataKey
	var ciphertext content
	var iv, outIV string
	c := &cobra.Command{
		Use:   "re-encrypt-data",
		Short: "Encipher data under another key (DataService.ReEncryptData)",
		Example: `  keyd call re-encrypt-data --dir ./dev --in-key bdk-tdes --in-ksn FFFF9876543210E00001 --in-direction request \
      --iv 0000000000000000 --ciphertext-file track.enc --out-key data-zone`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	in.flags(c, "in-")
	to.flags(c, "out-")
	ciphertext.flags(c, "ciphertext", "the enciphered data")
	c.Flags().StringVar(&iv, "iv", "", "initialization vector of the data in hex")
	c.Flags().StringVar(&outIV, "out-iv", "", "CBC: initialization vector of what goes out; a random one if unset")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request := &keydv1.ReEncryptDataRequest{}
		if request.Incoming, err = in.message(); err != nil {
			return err
		}
		if request.Outgoing, err = to.message(); err != nil {
			return err
		}
		if request.Ciphertext, err = ciphertext.bytes(); err != nil {
			return err
		}
		if request.InitializationVector, err = decodeIV(iv); err != nil {
			return err
		}
		if request.OutgoingInitializationVector, err = decodeIV(outIV); err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewDataServiceClient, keydv1.DataServiceClient.ReEncryptData, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "ciphertext", fmt.Sprintf("%X", answer.Ciphertext))
			row(w, "initialization vector", fmt.Sprintf("%X", answer.InitializationVector))
			row(w, "key check value", answer.KeyCheckValue)
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}
