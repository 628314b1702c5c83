package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinblock"
	"keyd/simulator"
)

// messageFlags are a message of a terminal, and the keys that it goes under.
type messageFlags struct {
	under  simulator.Under
	pan    string
	format uint8
	text   string
}

func (m *messageFlags) keys(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&m.under.Register, "register", "pin", "the initial key, by its name in the key set")
	f.BoolVar(&m.under.Session, "session", false, "under the keys of the last sign-in, in place of an initial key's")
	c.MarkFlagsMutuallyExclusive("register", "session")
}

func (m *messageFlags) pin(c *cobra.Command) {
	c.Flags().StringVar(&m.pan, "pan", "", "primary account number with its check digit")
	c.Flags().Uint8Var(&m.format, "format", 0, "ISO 9564-1 format: 0 or 3 under TDES, 4 under AES")
	if err := c.MarkFlagRequired("pan"); err != nil {
		panic(err) // the flag is defined above
	}
}

// send reads the PIN, if there is to be one, and makes the message.
func (m *messageFlags) send(s *simulated, withPIN, withText bool) (*simulator.Sent, error) {
	message := simulator.Message{Format: pinblock.Format(m.format), PAN: m.pan}
	if withPIN {
		pin, err := readPIN()
		defer clear(pin)
		if err != nil {
			return nil, err
		}
		message.PIN = append([]byte{}, pin...)
		defer clear(message.PIN)
	}
	if withText {
		message.Text = []byte(m.text)
	}
	return s.device().Send(m.under, message)
}

// sentJSON is a message for scripts; keys are as keyd's contract has them.
type sentJSON struct {
	KSN      string          `json:"key_serial_number,omitempty"` // hex
	PINKey   json.RawMessage `json:"pin_key,omitempty"`
	PINBlock []byte          `json:"encrypted_pin_block,omitempty"`
	MACKey   json.RawMessage `json:"mac_key,omitempty"`
	Text     []byte          `json:"message,omitempty"`
	MAC      []byte          `json:"mac,omitempty"`
	PIN      *bool           `json:"pin_verified,omitempty"`
	Genuine  *bool           `json:"mac_verified,omitempty"`
}

func (j *sentJSON) of(sent *simulator.Sent, text string) (err error) {
	*j = sentJSON{KSN: fmt.Sprintf("%X", sent.KSN), PINBlock: sent.PINBlock, MAC: sent.MAC}
	encode := func(m proto.Message) json.RawMessage {
		b, failed := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		err = errors.Join(err, failed)
		return b
	}
	if sent.PINKey != nil {
		j.PINKey = encode(sent.PINKey)
	}
	if sent.MACKey != nil {
		j.MACKey, j.Text = encode(sent.MACKey), []byte(text)
	}
	return err
}

func writeSent(w io.Writer, sent *simulator.Sent) {
	if len(sent.KSN) > 0 {
		row(w, "KSN", fmt.Sprintf("%X", sent.KSN))
	}
	if k := sent.PINKey; k != nil {
		row(w, "key of the PIN", printable(k.KeyId))
		row(w, "format", k.Format.String())
		row(w, "encrypted PIN block", fmt.Sprintf("%X", sent.PINBlock))
	}
	if k := sent.MACKey; k != nil {
		row(w, "key of the MAC", printable(k.KeyId))
		row(w, "algorithm", k.Algorithm.String())
		row(w, "MAC", fmt.Sprintf("%X", sent.MAC))
	}
}

func simulatePIN() *cobra.Command {
	var s simulated
	var m messageFlags
	c := &cobra.Command{
		Use:   "pin",
		Short: "Encipher a PIN with the terminal's keys",
		Long: `Reads a PIN (without echo from a terminal, else one line of standard input) and enciphers it
under the next DUKPT key, or the session key.`,
		Example: `  keyd terminal simulate pin --state t-0001.json --pan 4564320000980369 --format 4 <<<2205`,
		Args:    cobra.NoArgs,
	}
	s.flags(c)
	m.keys(c)
	m.pin(c)
	c.RunE = func(*cobra.Command, []string) error { return printSent(&s, &m, true, false) }
	return c
}

func simulateMAC() *cobra.Command {
	var s simulated
	var m messageFlags
	c := &cobra.Command{
		Use:     "mac",
		Short:   "Authenticate a message with the terminal's keys",
		Example: `  keyd terminal simulate mac --state t-0001.json --message "amount 12.50"`,
		Args:    cobra.NoArgs,
	}
	s.flags(c)
	m.keys(c)
	c.Flags().StringVar(&m.text, "message", "", "the message")
	if err := c.MarkFlagRequired("message"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(*cobra.Command, []string) error { return printSent(&s, &m, false, true) }
	return c
}

func printSent(s *simulated, m *messageFlags, pin, text bool) error {
	sent, err := m.send(s, pin, text)
	if err != nil {
		return err
	}
	var j sentJSON
	if err := j.of(sent, m.text); err != nil {
		return err
	}
	return s.print(j, func(w io.Writer) { writeSent(w, sent) })
}

func simulateTransaction() *cobra.Command {
	var s simulated
	var m messageFlags
	var as, key, pvv string
	var index int32
	c := &cobra.Command{
		Use:   "transaction",
		Short: "A payment: an enciphered PIN and an authenticated message",
		Long: `Reads a PIN, enciphers it, authenticates the message with a key of the same transaction, and
prints what a switch needs. With --verify-as, a switch's identity of a development service,
keyd verifies both. The sample card 4564320000980369 has the PIN 2205, whose PVV is 3856.`,
		Example: `  keyd terminal simulate transaction --state t-0001.json --format 4 \
      --pan 4564320000980369 --verify-as switch --dir ./dev <<<2205`,
		Args: cobra.NoArgs,
	}
	s.flags(c)
	s.conn.flags(c, "")
	if err := c.Flags().MarkHidden("as"); err != nil { // --verify-as is in its place
		panic(err) // the flag is defined above
	}
	m.keys(c)
	m.pin(c)
	f := c.Flags()
	f.StringVar(&m.text, "message", "amount 12.50", "the message")
	f.StringVar(&as, "verify-as", "", "with --dir: have keyd verify both, as this identity")
	f.StringVar(&key, "verification-key", "pvk-visa", "for --verify-as: the key of the PVV")
	f.Int32Var(&index, "key-index", 1, "for --verify-as: PVKI")
	f.StringVar(&pvv, "pvv", "3856", "for --verify-as: PVV of the card's PIN")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if as != "" && s.conn.dir == "" {
			return errors.New("--verify-as names an identity of a development service: --dir")
		}
		sent, err := m.send(&s, true, true)
		if err != nil {
			return err
		}
		var j sentJSON
		if err := j.of(sent, m.text); err != nil {
			return err
		}
		if verify := as != "" || s.conn.server != ""; verify {
			s.conn.as = as
			expected := &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: index, Pvv: pvv}}}
			if err := verifySent(cmd, &s.conn, &j, sent, &keydv1.VerifyPinDataRequest{VerificationKeyId: key, PrimaryAccountNumber: m.pan, Expected: expected}); err != nil {
				return err
			}
		}
		return s.print(j, func(w io.Writer) {
			writeSent(w, sent)
			if j.PIN != nil {
				row(w, "PIN verified", fmt.Sprint(*j.PIN))
				row(w, "MAC verified", fmt.Sprint(*j.Genuine))
			}
		})
	}
	return c
}

// verifySent has keyd verify the PIN and the MAC of a message, as a switch does.
func verifySent(cmd *cobra.Command, conn *connection, j *sentJSON, sent *simulator.Sent, request *keydv1.VerifyPinDataRequest) error {
	request.Incoming, request.EncryptedPinBlock = sent.PINKey, sent.PINBlock
	return conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) error {
		pin, err := keydv1.NewPinServiceClient(c).VerifyPinData(ctx, request)
		if err != nil {
			return err
		}
		mac, err := keydv1.NewMacServiceClient(c).VerifyMac(ctx, &keydv1.VerifyMacRequest{Key: sent.MACKey, Message: j.Text, Mac: sent.MAC})
		if err != nil {
			return err
		}
		j.PIN, j.Genuine = &pin.Verified, &mac.Verified
		return nil
	})
}
