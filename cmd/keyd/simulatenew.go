package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/development/injecting"
	"keyd/simulator"
	"keyd/tr34"
)

// makerFlags say who makes a simulated terminal, and whose hosts it believes.
type makerFlags struct {
	maker, csr string
	hosts      []string
}

func simulateNew() *cobra.Command {
	var s simulated
	var m makerFlags
	var algorithm, profile, certificate, owner, keySet string
	c := &cobra.Command{
		Use:   "new ID",
		Short: "Make a simulated terminal",
		Long: `Makes a terminal: a key pair, its certificate by the maker's authority in a directory
(--maker) or a request for one (--csr), and the authorities of key hosts that it believes
(--hosts-ca).

With --dir it is a terminal of the development service that keyd terminal simulate prepare has
made ready: its maker and the hosts' authority are those in the directory, and it is
registered as officer-1 does it, with a key set if one is named.`,
		Example: `  keyd terminal simulate new t-0001 --state t-0001.json --key-set dev-aes --dir ./dev
  keyd terminal simulate new t-0002 --state t-0002.json --algorithm RSA-3072 --maker ./maker \
    --hosts-ca hosts.pem --certificate-out t-0002.pem
  keyd terminal simulate new t-0003 --state t-0003.json --csr t-0003.csr --hosts-ca hosts.pem`,
		Args: oneTerminal,
	}
	s.flags(c)
	s.conn.flags(c, "officer-1")
	f := c.Flags()
	f.StringVar(&algorithm, "algorithm", "P-256", "of its key pair: "+strings.Join(simulator.Algorithms, ", "))
	f.StringVar(&profile, "profile", "", "of its TR-34 tokens: "+strings.Join(tr34.ProfileNames(), ", "))
	f.StringVar(&m.maker, "maker", "", "directory of the maker's authority, which is made if it is not there")
	f.StringVar(&m.csr, "csr", "", "file that is made for a certificate request, in PEM, in place of a certificate")
	f.StringSliceVar(&m.hosts, "hosts-ca", nil, "PEM file of an authority whose key hosts it believes")
	f.StringVar(&certificate, "certificate-out", "", "file that is made for its certificate, in PEM")
	f.StringVar(&owner, "owner", "m-1", "with --dir: the merchant whose terminal it is")
	f.StringVar(&keySet, "key-set", "", "with --dir: the keys that it gets")
	c.MarkFlagsMutuallyExclusive("maker", "csr")
	completeFlag(c, "algorithm", simulator.Algorithms...)
	completeFlag(c, "profile", tr34.ProfileNames()...)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if s.conn.dir != "" && m.maker == "" && m.csr == "" {
			m.maker = filepath.Join(s.conn.dir, injecting.MakerDir)
			m.hosts = append(m.hosts, filepath.Join(s.conn.dir, injecting.HostsDir, "ca.crt"))
			if _, err := os.Stat(m.hosts[len(m.hosts)-1]); err != nil {
				return fmt.Errorf("%w: keyd terminal simulate prepare --dir %s makes the service ready first", err, s.conn.dir)
			}
		}
		if m.maker == "" && m.csr == "" {
			return errors.New("say who certifies it: --maker DIR, --csr FILE, or --dir for a development service")
		}
		chain, err := m.make(&s, args[0], algorithm, profile)
		if err != nil {
			return err
		}
		if certificate != "" && chain != nil {
			if err := writeNew(certificate, pemOf(chain), 0o644); err != nil {
				return err
			}
		}
		if s.conn.dir != "" && m.csr == "" {
			if err := registerSimulated(cmd, &s.conn, args[0], owner, keySet, chain); err != nil {
				return fmt.Errorf("the terminal is in %s, and is not registered with a key set yet (keyd terminal register, keyset assign): %w", s.state, err)
			}
		}
		return showDevice(&s)
	}
	return c
}

// make makes the terminal, and returns its certificate in DER if it has one.
func (m *makerFlags) make(s *simulated, id, algorithm, profile string) ([]byte, error) {
	var authorities [][]byte
	for _, path := range m.hosts {
		ders, err := certificateFile(path)
		if err != nil {
			return nil, err
		}
		authorities = append(authorities, ders...)
	}
	key, err := simulator.GenerateKey(algorithm)
	if err != nil {
		return nil, err
	}
	d, err := simulator.NewDevice(s.state, id, profile, key)
	if err != nil {
		return nil, err
	}
	if err := d.BelieveHosts(authorities); err != nil {
		return nil, err
	}
	if m.csr != "" {
		der, err := d.CertificateRequest()
		if err != nil {
			return nil, err
		}
		return nil, writeNew(m.csr, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o644)
	}
	maker, _, err := simulator.MakeAuthority(m.maker, "keyd development maker of terminals", "P-384")
	if err != nil {
		return nil, err
	}
	der, err := maker.Device(id, key.Public())
	if err != nil {
		return nil, err
	}
	return der, d.SetCertificates([][]byte{der})
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// registerSimulated has a terminal be in the inventory, and get keys.
func registerSimulated(cmd *cobra.Command, conn *connection, id, owner, keySet string, certificate []byte) error {
	_, err := call(cmd, conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.RegisterTerminal, &keydv1.RegisterTerminalRequest{
		TerminalId: id, Owner: owner, Model: "simulated", SerialNumber: id, Certificates: [][]byte{certificate},
	})
	if err != nil || keySet == "" {
		return err
	}
	_, err = call(cmd, conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.AssignKeySet, &keydv1.AssignKeySetRequest{TerminalId: id, KeySet: keySet})
	return err
}

func simulateCertify() *cobra.Command {
	var s simulated
	var certificate string
	c := &cobra.Command{
		Use:     "certify",
		Short:   "Give a simulated terminal the certificate that its maker has made",
		Example: `  keyd terminal simulate certify --state t-0003.json --certificate t-0003.pem`,
		Args:    cobra.NoArgs,
	}
	s.flags(c)
	c.Flags().StringVar(&certificate, "certificate", "", "PEM file of its certificate and then its issuers")
	if err := c.MarkFlagRequired("certificate"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(*cobra.Command, []string) error {
		chain, err := certificateFile(certificate)
		if err != nil {
			return err
		}
		if err := s.device().SetCertificates(chain); err != nil {
			return err
		}
		return showDevice(&s)
	}
	return c
}

func simulateShow() *cobra.Command {
	var s simulated
	c := &cobra.Command{
		Use:     "show",
		Short:   "Show a simulated terminal, but for its keys",
		Example: `  keyd terminal simulate show --state t-0001.json`,
		Args:    cobra.NoArgs,
	}
	s.flags(c)
	c.RunE = func(*cobra.Command, []string) error { return showDevice(&s) }
	return c
}

// deviceJSON is what scripts see of a terminal.
type deviceJSON struct {
	Terminal    string              `json:"terminal"`
	Key         string              `json:"key"`
	Certificate string              `json:"certificate,omitempty"`
	Host        string              `json:"host,omitempty"`
	Waiting     string              `json:"waiting_for,omitempty"`
	Received    *simulator.InfoKeys `json:"received,omitempty"`
	Current     *simulator.InfoKeys `json:"current,omitempty"`
}

func showDevice(s *simulated) error {
	i, err := s.device().Info()
	if err != nil {
		return err
	}
	said := deviceJSON{Terminal: i.Terminal, Key: i.KeyAlgorithm, Waiting: i.Waiting, Received: i.Received, Current: i.Current}
	if len(i.Certificates) > 0 {
		said.Certificate = i.Certificates[0].Subject.String()
	}
	if i.Host != nil {
		said.Host = i.Host.Subject.String()
	}
	return s.print(said, func(w io.Writer) {
		row(w, "terminal", printable(said.Terminal))
		row(w, "key pair", said.Key)
		row(w, "certificate", dash(printable(said.Certificate)))
		for _, a := range i.Authorities {
			row(w, "believes the hosts of", printable(a.Subject.String()))
		}
		row(w, "bound to the host", dash(printable(said.Host)))
		row(w, "waiting for", dash(said.Waiting))
		writeInfoKeys(w, "keys that are not confirmed", i.Received)
		writeInfoKeys(w, "keys in use", i.Current)
	})
}

func writeInfoKeys(w io.Writer, what string, k *simulator.InfoKeys) {
	if k == nil {
		row(w, what, "none")
		return
	}
	row(w, what, "injection "+k.Injection)
	for _, r := range k.Registers {
		row(w, "  initial key "+printable(r.Name), fmt.Sprintf("of %s, next KSN %s", printable(r.KeyID), dash(r.KSN)))
	}
	for _, s := range k.Session {
		row(w, "  session key "+printable(s.Name), fmt.Sprintf("%s, until %s UTC", printable(s.Usage), s.NotAfter.UTC().Format(time.DateTime)))
	}
}
