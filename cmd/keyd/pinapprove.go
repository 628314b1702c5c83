package main

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
	"keyd/pinrecord"
)

// maxPaper bounds the file of an approval: the document, the signature and the certificates, in
// base64.
const maxPaper = 32 << 10

func readPaper(path string) (*pinrecord.Signed, *pinrecord.Approval, error) {
	text, err := readBounded(path, maxPaper)
	if err != nil {
		return nil, nil, err
	}
	return parsePaper(text, path)
}

// parsePaper reads the one form of an approver's file. Whose signature it is, and whether it is one,
// is not looked at.
func parsePaper(text []byte, path string) (*pinrecord.Signed, *pinrecord.Approval, error) {
	s, err := ceremony.Decode[pinrecord.Signed](text, maxPaper)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is no approval of keyd pin approve", path)
	}
	a, err := pinrecord.ParseApproval(s.Document)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, a, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}

func pinApprove() *cobra.Command {
	var key signingKey
	var whose subject
	var action, paper, deliver, certificate, to string
	var version uint32
	var validFor time.Duration
	var yes bool
	c := &cobra.Command{
		Use:   "approve --out FILE",
		Short: "Approve, as one of two, what happens to a PIN",
		Long: `Writes an approval and signs it, on the approver's own machine: that a subject gets a first PIN
or passkey (--action enrol), another (reset), or the PIN's tries back (unblock). The second approver signs the
same paper (--paper). What is signed is shown, and confirmed at the terminal.

Whoever is named by --deliver-to (a public key in PEM; by default the first approver's own) is
the one who can read the code that the subject is given. An approval is good for at most 24
hours, and once.`,
		Example: `  keyd pin approve --action enrol --merchant m-17 --name dora --version 1 --officer-key anna.key --certificate anna.crt --out dora.1
  keyd pin approve --action enrol --kind passkey --merchant m-17 --name dora --version 1 --officer-key anna.key --certificate anna.crt --out phone.1
  keyd pin approve --paper dora.1 --officer-key bert.key --certificate bert.crt --out dora.2`,
		Args: cobra.NoArgs,
	}
	key.flags(c)
	f := c.Flags()
	f.StringVar(&action, "action", "", "enrol, reset or unblock")
	f.StringVar(&whose.merchant, "merchant", "", "the merchant")
	f.StringVar(&whose.terminal, "terminal", "", "the terminal, of a supervisor of one")
	f.StringVar(&whose.name, "name", "", "whose PIN it is")
	whose.kindFlags(c)
	f.Uint32Var(&version, "version", 0, "the version that the PIN will have (keyd pin status: its version and one); of unblock: that it has")
	f.StringVar(&deliver, "deliver-to", "", "PEM file of the public key of who hands the code over (default: the approver)")
	f.DurationVar(&validFor, "valid-for", time.Hour, "how long the approval, and the code, is good")
	f.StringVar(&paper, "paper", "", "the other approver's file, to sign the same")
	f.StringVar(&certificate, "certificate", "", "PEM file of the approver's certificate and its issuers")
	f.StringVar(&to, "out", "", "file to write, which does not exist yet")
	f.BoolVar(&yes, "yes", false, "do not ask")
	c.MarkFlagsMutuallyExclusive("paper", "action")
	c.MarkFlagsOneRequired("paper", "action")
	for _, name := range []string{"certificate", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(*cobra.Command, []string) error {
		by, err := readApprover(certificate)
		if err != nil {
			return err
		}
		var a *pinrecord.Approval
		if paper != "" {
			if _, a, err = readPaper(paper); err != nil {
				return err
			}
		} else if a, err = newApproval(action, &whose, version, deliver, by.Approver, validFor); err != nil {
			return err
		}
		encoded, err := a.Encode()
		if err != nil {
			return err
		}
		if !by.MayApproveFor(a.Subject.Merchant) {
			return fmt.Errorf("%s: %w", by.ID, pinrecord.ErrMerchant)
		}
		if err := showApproval(os.Stderr, a, by.Approver); err != nil {
			return err
		}
		signed, err := by.sign(&key, !yes, func(signer crypto.Signer, chain [][]byte) (pinrecord.Signed, error) {
			return pinrecord.Sign(signer, chain, encoded)
		})
		if err != nil {
			return err
		}
		text, err := ceremony.Encode(&signed)
		if err != nil {
			return err
		}
		return writeNew(to, text, 0o644)
	}
	return c
}

func newApproval(action string, whose *subject, version uint32, deliver string, by *pinrecord.Approver, validFor time.Duration) (*pinrecord.Approval, error) {
	s, err := whose.record()
	if err != nil {
		return nil, err
	}
	actions := map[string]pinrecord.Action{"enrol": pinrecord.Enrol, "reset": pinrecord.Reset, "unblock": pinrecord.Unblock}
	a := &pinrecord.Approval{Action: actions[action], Subject: *s, Version: version, NotAfter: time.Now().Add(validFor).Unix()}
	switch {
	case a.Action == "":
		return nil, errors.New("--action is enrol, reset or unblock")
	case version == 0 || version > pinrecord.MaxVersion:
		return nil, fmt.Errorf("--version is from 1 to %d: keyd pin status shows the one that is", pinrecord.MaxVersion)
	case validFor <= 0 || validFor > pinrecord.MaxApproval:
		return nil, errors.New("--valid-for is at most 24h")
	}
	var request [pinrecord.RequestSize]byte
	if _, err := rand.Read(request[:]); err != nil {
		return nil, err
	}
	a.Request = hex.EncodeToString(request[:])
	if a.Action == pinrecord.Unblock {
		if deliver != "" {
			return nil, errors.New("--deliver-to: with unblock the PIN stays, and there is no code")
		}
		return a, nil
	}
	var public crypto.PublicKey = by.Key
	if deliver != "" {
		text, err := readBounded(deliver, maxPaper)
		if err != nil {
			return nil, err
		}
		if public, err = officer.ParsePublicPEM(text); err != nil {
			return nil, fmt.Errorf("%s: %w", deliver, err)
		}
	}
	a.DeliverTo, err = x509.MarshalPKIXPublicKey(public)
	return a, err
}

// showApproval shows an approver what is going to be signed.
func showApproval(w io.Writer, a *pinrecord.Approval, by *pinrecord.Approver) error {
	has := "PIN"
	if a.Subject.Kind == pinrecord.Passkey {
		has = "passkey"
	}
	what := map[pinrecord.Action]string{pinrecord.Enrol: "gets a first " + has, pinrecord.Reset: "loses its " + has + " at once, and gets another", pinrecord.Unblock: "gets its tries back, and keeps its PIN"}
	text := fmt.Sprintf("%s %s", strings.ToLower(string(a.Subject.Kind)), a.Subject.Name)
	if a.Subject.Terminal != "" {
		text += ", terminal " + a.Subject.Terminal
	}
	if a.Subject.Merchant != "" {
		text += ", merchant " + a.Subject.Merchant
	}
	text += fmt.Sprintf("\n%s (%s, version %d)\ngood until %s, request %s\n", what[a.Action], a.Action, a.Version, time.Unix(a.NotAfter, 0).UTC().Format(time.RFC3339), a.Request)
	if a.DeliverTo != nil {
		text += "the code is for the key " + ceremony.Digest(a.DeliverTo)
		if own, err := x509.MarshalPKIXPublicKey(by.Key); err == nil && string(own) == string(a.DeliverTo) {
			text += ", your own"
		}
		text += "\n"
	}
	_, err := io.WriteString(w, text+"approver "+by.ID+"\n")
	return err
}

func pinBegin() *cobra.Command {
	var conn connection
	var out output
	var to, notAfter string
	c := &cobra.Command{
		Use:   "begin APPROVAL APPROVAL",
		Short: "Hand in what two approvers have signed",
		Long: `Hands two approvals over the same paper in, and keeps the sealed code in a file: for who was named
in the approval, and nobody else (keyd pin code). The same approvals again have the same code.
Where the policy lets it be set on a phone, the link of the page is printed: it is for the subject,
and no secret that would be of use without the code.
With a reset the PIN that was is dead from then on.`,
		Example: `  keyd pin begin dora.1 dora.2 --code-out dora.code --dir ./dev`,
		Args:    twoApprovals,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&to, "code-out", "", "file for the sealed code, which does not exist yet")
	c.Flags().StringVar(&notAfter, "not-after", "", "end of a temporary PIN, as 2026-01-02T15:04:05Z (default: none)")
	if err := c.MarkFlagRequired("code-out"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		request, err := beginRequest(args)
		if err != nil {
			return err
		}
		if notAfter != "" {
			at, err := time.Parse(time.RFC3339, notAfter)
			if err != nil {
				return errors.New("--not-after is a time like 2026-01-02T15:04:05Z")
			}
			request.NotAfter = timestamppb.New(at)
		}
		file, err := createNew(to, 0o644)
		if err != nil {
			return err
		}
		a, err := callBegin(cmd, &conn, request)
		if err != nil {
			file.discard()
			return err
		}
		if err := file.finish(a.SealedCode); err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			pinTable(a.Record)(w)
			if a.Link != "" {
				row(w, "link", printable(a.Link))
			}
		})
	}
	return c
}

func pinUnblock() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "unblock APPROVAL APPROVAL",
		Short:   "Give a PIN its tries back, as two approvers have signed",
		Example: `  keyd pin unblock dora.1 dora.2 --dir ./dev`,
		Args:    twoApprovals,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		request, err := beginRequest(args)
		if err != nil {
			return err
		}
		if a, err := pinrecord.ParseApproval(request.Approvals[0].Document); err != nil || a.Action != pinrecord.Unblock {
			return errors.New("what is approved is something else: keyd pin begin carries it out")
		}
		a, err := callBegin(cmd, &conn, request)
		if err != nil {
			return err
		}
		return out.print(a.Record, pinTable(a.Record))
	}
	return c
}

func twoApprovals(c *cobra.Command, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("name the files of two approvers (keyd pin approve): %s", c.UseLine())
	}
	return nil
}

func beginRequest(files []string) (*keydv1.BeginPinRequest, error) {
	request := &keydv1.BeginPinRequest{}
	for _, path := range files {
		s, _, err := readPaper(path)
		if err != nil {
			return nil, err
		}
		request.Approvals = append(request.Approvals, &keydv1.PinApproval{Document: s.Document, Signature: s.Signature, Certificates: s.Certificates})
	}
	return request, nil
}

func callBegin(cmd *cobra.Command, conn *connection, request *keydv1.BeginPinRequest) (a *keydv1.BeginPinResponse, err error) {
	err = conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
		a, err = keydv1.NewPinRecordServiceClient(c).BeginPin(ctx, request)
		return err
	})
	return a, err
}

func pinCode() *cobra.Command {
	var key signingKey
	var approval, sealed string
	c := &cobra.Command{
		Use:   "code",
		Short: "Read the code that the subject is given, as the approver who hands it over",
		Long: `Opens the sealed code with the approver's key, on the approver's own machine, and prints its 8
digits: to be read out to the subject, who sets the PIN with it, and kept nowhere.`,
		Example: `  keyd pin code --approval dora.1 --sealed dora.code --officer-key anna.key`,
		Args:    cobra.NoArgs,
	}
	key.flags(c)
	c.Flags().StringVar(&approval, "approval", "", "file of either approval")
	c.Flags().StringVar(&sealed, "sealed", "", "file of the sealed code (keyd pin begin)")
	for _, name := range []string{"approval", "sealed"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(*cobra.Command, []string) error {
		s, _, err := readPaper(approval)
		if err != nil {
			return err
		}
		text, err := readBounded(sealed, pinrecord.MaxSealedCode)
		if err != nil {
			return err
		}
		signer, closeKey, err := key.open()
		if err != nil {
			return err
		}
		defer closeKey()
		private, err := exchanger(signer)
		if err != nil {
			return err
		}
		code, err := pinrecord.OpenCode(private, s.Document, text)
		if err != nil {
			return err
		}
		defer clear(code)
		_, err = os.Stdout.Write(append(code, '\n'))
		return err
	}
	return c
}

// exchanger is the key of a file for opening what is sealed to it.
func exchanger(signer crypto.Signer) (*ecdh.PrivateKey, error) {
	key, ok := signer.(interface {
		Exchanger() (*ecdh.PrivateKey, error)
	})
	if !ok {
		return nil, errors.New("a code opens with a key file: name one by --deliver-to when it is approved")
	}
	return key.Exchanger()
}
