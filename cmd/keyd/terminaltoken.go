package main

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keyd/keyblock"
	"keyd/officer"
	"keyd/tr34"
)

func terminalToken() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Look into the tokens of TR-34",
		Args:  cobra.NoArgs,
		RunE:  needsSubcommand,
	}
	c.AddCommand(terminalTokenShow())
	return c
}

func terminalTokenShow() *cobra.Command {
	var out output
	var signer, device, key string
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "Say what a TR-34 token is, who signed it, and for whom",
		Long: `Reads a token of X9 TR 34-2019 of any host's or device's: a credential, a random number, a
key token, an unbind or a rebind token; in DER, PEM, hex or base64. "-" is standard input.

With --signer it verifies the signature. With --device and --device-key, both in PEM, it opens
a key token as the device does, and prints the check value of the key, never the key: for
devices of tests, whose key lies in a file.

Whether certificates are believed, and whether the token is fresh, it does not say: that is
for a device to decide.`,
		Example: `  keyd terminal token show kt_kdh.der --signer kdh.pem`,
		Args:    cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&signer, "signer", "", "file with the certificate of who should have signed it, in PEM")
	f.StringVar(&device, "device", "", "file with the certificate of the device, in PEM")
	f.StringVar(&key, "device-key", "", "file with the private key of the device, RSA in PEM")
	c.MarkFlagsRequiredTogether("device", "device-key")
	out.flag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		i, err := readTerminalToken(args[0])
		if err != nil {
			return err
		}
		shown := describeToken(i)
		if signer != "" {
			if err := tokenSignedBy(i, signer); err != nil {
				return err
			}
			shown.add("signature", "by that certificate's key")
		}
		if device != "" {
			if err := shown.open(i, device, key); err != nil {
				return err
			}
		}
		return shown.print(asJSON)
	}
	return c
}

func readTerminalToken(path string) (*tr34.Inspection, error) {
	var text []byte
	var err error
	if path == "-" {
		text, err = io.ReadAll(io.LimitReader(os.Stdin, 4*tr34.MaxToken))
	} else {
		text, err = readLimited(path, 4*tr34.MaxToken)
	}
	if err != nil {
		return nil, err
	}
	i, err := tr34.Inspect(binaryOf(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, limit))
}

// binaryOf returns the DER in a text: PEM, hex or base64, or what it is itself.
func binaryOf(text []byte) []byte {
	if block, _ := pem.Decode(text); block != nil {
		return block.Bytes
	}
	plain := string(bytes.Join(bytes.Fields(text), nil))
	if b, err := hex.DecodeString(plain); err == nil && len(b) > 0 {
		return b
	}
	if b, err := base64.StdEncoding.DecodeString(plain); err == nil && len(b) > 0 {
		return b
	}
	return text
}

func tokenSignedBy(i *tr34.Inspection, path string) error {
	c, err := readCertificate(path)
	if err != nil {
		return err
	}
	if err := i.SignedBy(c); err != nil {
		return fmt.Errorf("the signature is not verified with %s: %w", path, err)
	}
	return nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := readLimited(path, 64<<10)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(binaryOf(text))
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate: %w", path, err)
	}
	return c, nil
}

func readRSAKey(path string) (*rsa.PrivateKey, error) {
	text, err := readLimited(path, 64<<10)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	der := binaryOf(text)
	defer clear(der)
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if key, ok := parsed.(*rsa.PrivateKey); err == nil && ok {
		return key, nil
	}
	return nil, fmt.Errorf("%s holds no RSA private key in PKCS#1 or PKCS#8", path)
}

// shownToken is what is printed of a token, line by line.
type shownToken []struct{ Name, Value string }

func (s *shownToken) add(name, format string, a ...any) {
	*s = append(*s, struct{ Name, Value string }{name, fmt.Sprintf(format, a...)})
}

func describeToken(i *tr34.Inspection) (s shownToken) {
	s.add("kind", "%s", i.Kind)
	for _, who := range []struct {
		role string
		name *tr34.Name
	}{{"signer", i.Signer}, {"for the device", i.Recipient}} {
		if who.name != nil {
			s.add(who.role, "%s, serial number %X", who.name.Issuer, who.name.Serial)
		}
	}
	if i.Random != nil {
		s.add("random number", "%X", i.Random)
	}
	if !i.Time.IsZero() {
		s.add("time stamp", "%s", i.Time.UTC().Format(time.RFC3339))
	}
	if i.Header != "" {
		s.add("key block header", "%s", i.Header)
		if h, _, err := keyblock.ParseHeader([]byte(i.Header)); err == nil {
			s.add("key", "usage %s, algorithm %c, mode of use %c, exportability %c", h.Usage, h.Algorithm, h.Mode, h.Exportability)
		}
		s.add("enciphered with", "RSA-OAEP of %s with MGF1 of %s, %s", i.OAEP, i.MGF, i.Cipher)
	}
	if i.BareOrder {
		s.add("signed attributes", "not in the order of DER, as the samples of annex B")
	}
	for _, c := range i.Certificates {
		s.add("certificate", "%s, by %s, serial number %X, until %s", c.Subject, c.Issuer, c.SerialNumber, c.NotAfter.UTC().Format(time.DateOnly))
	}
	for _, l := range i.CRLs {
		s.add("revocation list", "by %s, of %s, until %s, %d entries", l.Issuer, l.ThisUpdate.UTC().Format(time.RFC3339), l.NextUpdate.UTC().Format(time.RFC3339), len(l.RevokedCertificateEntries))
	}
	return s
}

// open adds what only the device can read: the key's size and check value.
func (s *shownToken) open(i *tr34.Inspection, certificate, key string) error {
	if i.Kind != tr34.KeyKind {
		return errors.New("only a key token can be opened")
	}
	c, err := readCertificate(certificate)
	if err != nil {
		return err
	}
	private, err := readRSAKey(key)
	if err != nil {
		return err
	}
	scratch, value := make([]byte, tr34.ScratchSize), make([]byte, 32)
	defer clear(value)
	n, host, err := i.OpenKey(&tr34.Device{Certificate: c, Decrypt: tr34.RSADecrypt(private)}, scratch, value)
	if err != nil {
		return err
	}
	h, _, err := keyblock.ParseHeader([]byte(i.Header))
	if err != nil {
		return err
	}
	check, err := officer.CheckValue(string(h.Algorithm), value[:n])
	if err != nil {
		return err
	}
	s.add("host inside", "%s, serial number %X", host.Issuer, host.Serial)
	s.add("key size", "%d bytes", n)
	s.add("key check value", "%s", check)
	return nil
}

func (s shownToken) print(asJSON bool) error {
	if asJSON {
		list := make([]map[string]string, len(s))
		for i, line := range s {
			list[i] = map[string]string{"name": strings.ReplaceAll(line.Name, " ", "_"), "value": line.Value}
		}
		return json.NewEncoder(os.Stdout).Encode(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, line := range s {
		row(w, line.Name, line.Value)
	}
	return w.Flush()
}
