package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyd/ceremony"
	"keyd/officer"
)

// desk is what an officer works with: the flags of the service, the key and the file of
// confirmed modules.
type desk struct {
	conn  connection
	key   signingKey
	name  string
	known string
}

// deskTimeout is how long an officer waits for each answer: a token may look for the primes of
// an RSA key.
const deskTimeout = time.Minute

// readFlags are those of commands that sign nothing.
func (d *desk) readFlags(c *cobra.Command) {
	d.conn.flags(c, "officer-1")
	d.conn.timeout = deskTimeout
	c.Flags().Lookup("timeout").DefValue = d.conn.timeout.String()
	c.Flags().StringVar(&d.known, "known", "", "file of the modules that the officer has confirmed (default ~/.config/keyd/known.json)")
	c.Flags().Lookup("timeout").Usage = "how long to wait for each answer"
}

func (d *desk) flags(c *cobra.Command) {
	d.readFlags(c)
	d.key.flags(c)
	c.Flags().StringVar(&d.name, "officer", "", "the officer's name in the roster (default: the one with the certificate's identity)")
}

// developmentName is under which a development service's module is confirmed: its port
// differs from start to start.
const developmentName = "development service"

// settle fills in what a development service's directory decides, and returns the name
// under which the module is known. It comes before the connection is made.
func (d *desk) settle() (name string, err error) {
	name = d.conn.server
	if d.conn.dir != "" {
		officers := filepath.Join(d.conn.dir, "officers")
		if d.key.file == "" && d.key.library == "" {
			d.key.file = filepath.Join(officers, d.conn.as+".key")
		}
		if d.known == "" {
			d.known = filepath.Join(officers, d.conn.as+".known.json")
		}
		if name == "" {
			name = developmentName
		}
	}
	if d.known == "" {
		d.known, err = officer.DefaultKnown()
	}
	return name, err
}

// session is a conversation with a module that the officer has confirmed.
type session struct {
	*officer.Client
	calls *calls
	known *officer.Known
	name  string // of the module in it
	desk  *desk
	close func()
}

// Close ends the conversation.
func (s *session) Close() {
	s.close()
	_ = s.calls.Close()
}

// module connects and fetches what the module says of itself, which nobody has compared.
func (d *desk) module(ctx context.Context) (*session, *officer.Module, error) {
	name, err := d.settle()
	if err != nil {
		return nil, nil, err
	}
	known, err := officer.Load(d.known)
	if err != nil {
		return nil, nil, err
	}
	calls, err := d.conn.open()
	if err != nil {
		return nil, nil, err
	}
	s := &session{calls: calls, known: known, name: name, desk: d, close: func() {}}
	m, err := officer.FetchModule(ctx, calls)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	s.Client = officer.NewClient(calls, m)
	return s, m, nil
}

// connect returns a session that reads.
func (d *desk) connect(ctx context.Context) (*session, error) {
	s, m, err := d.module(ctx)
	if err != nil {
		return nil, err
	}
	err = known(s.known, s.name, m, d.conn.dir != "")
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// known checks that the officer has confirmed the module. That of a development service is
// confirmed when it is first seen.
func known(k *officer.Known, name string, m *officer.Module, development bool) error {
	err := k.Check(name, m.Identity, m.Roster)
	switch {
	case errors.Is(err, officer.ErrUnknown) && development:
		if err := k.Trust(name, m.Identity, m.Roster); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "keyd: a development module, seen for the first time, and confirmed without asking: identity %s\n", m.Identity)
		return nil
	case errors.Is(err, officer.ErrUnknown):
		return fmt.Errorf("%w: keyd officer trust", err)
	case errors.Is(err, officer.ErrRosterChanged):
		return fmt.Errorf("%w: keyd officer trust, with --record if they give you the record of the change", err)
	}
	return err
}

// sign returns a session that signs as the officer.
func (d *desk) sign(ctx context.Context) (*session, error) {
	s, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.signs(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// papers returns a session that signs as the officer, and the papers of a ceremony.
func (d *desk) papers(ctx context.Context, id string) (*session, *officer.Papers, error) {
	s, err := d.sign(ctx)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.Papers(ctx, id)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, p, nil
}

func (s *session) signs() error {
	name, err := s.desk.officer(s.Module.Officers)
	if err != nil {
		return err
	}
	signer, end, err := s.desk.key.open()
	if err != nil {
		return err
	}
	s.close = end
	return s.As(name, signer)
}

// officer returns the name of the officer: the one named, or whose identity the certificate
// has.
func (d *desk) officer(roster *ceremony.Roster) (string, error) {
	if d.name != "" {
		return d.name, nil
	}
	identity, err := identityIn(d.conn.cert)
	if err != nil {
		return "", err
	}
	if o := roster.Identified(identity); o != nil {
		return o.Name, nil
	}
	return "", fmt.Errorf("the roster has no officer with the identity %q of the certificate: name one with --officer (%s)", identity, strings.Join(officer.Names(roster), ", "))
}

// identityIn returns the SPIFFE ID in a certificate file.
func identityIn(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("%s holds no certificate", path)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if len(certificate.URIs) != 1 {
		return "", fmt.Errorf("%s has no SPIFFE ID: name the officer with --officer", path)
	}
	return certificate.URIs[0].String(), nil
}
