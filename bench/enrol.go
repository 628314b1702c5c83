package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt/software"
	"keyd/pinblock"
	"keyd/simulator"
)

// The enrolment of terminals: each is registered, gets its keys with the certificate of its
// maker by one of the methods, and makes a transaction whose PIN is verified. At the end it is
// looked at what keyd has of each.

// enrolment is what came out of it.
type enrolment struct {
	Terminals int     `json:"terminals"`
	RSA       int     `json:"rsa_terminals"` // those by TR-34; the others have P-256 keys
	AtOnce    int     `json:"terminals_at_once"`
	Steps     []step  `json:"steps"`
	Proven    int     `json:"statements_verified"`
	Keys      int     `json:"initial_keys"` // no two of which are the same
	Seconds   float64 `json:"seconds"`
}

// step is what all terminals do, or those of one method.
type step struct {
	Name    string  `json:"name"`
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"per_second"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Others  float64 `json:"other_programs_percent"` // of all processors, meanwhile
}

// The methods, and how many terminals of a hundred get keys by each. Those of TR-34 have RSA keys,
// which take long to make: there are no more of them than rsaMost.
type method struct {
	name string
	by   keydv1.InjectionMethod
	set  string
	of   int
}

const rsaMost = 200

var methods = []method{
	{"key agreement, AES", keydv1.InjectionMethod_KEY_AGREEMENT, setAES, 60},
	{"key agreement, TDES", keydv1.InjectionMethod_KEY_AGREEMENT, setTDES, 36},
	{"TR-34 two-pass", keydv1.InjectionMethod_TR34_TWO_PASS, setTDES, 2},
	{"TR-34 one-pass", keydv1.InjectionMethod_TR34_ONE_PASS, setTDES, 2},
}

// The key sets.
const (
	setAES  = "bench-aes"
	setTDES = "bench-tdes"
)

// enrolled is a terminal on its way.
type enrolled struct {
	id     string
	method *method
	device *simulator.Device
	key    crypto.PublicKey
	card   uint32
}

// enrolling carries it out on one service.
type enrolling struct {
	*runner
	server    *server
	processes []process
	dir       string // of the terminals' state
	maker     *simulator.Authority
	hosts     *simulator.Authority
	officer   *grpc.ClientConn
	host      *grpc.ClientConn // the switch
	all       []*enrolled
	out       *enrolment
}

// enrol measures the enrolment of n terminals.
func (r *runner) enrol(n int) (err error) {
	if n == 0 || !r.wants("terminals get keys") {
		return nil
	}
	dir := filepath.Join(r.dir, "enrol")
	s, err := startService(r.ctx, &r.options, r.binary, dir, fixedKeys(r.ksn))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	status, err := s.settled(r.ctx)
	if err != nil {
		return err
	}
	states, err := stateDirectory(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(states)) }()
	e := &enrolling{runner: r, server: s, processes: processesOf(status), dir: states, out: &enrolment{Terminals: n, AtOnce: 16 * runtime.NumCPU()}}
	began := time.Now()
	if err := e.prepare(filepath.Join(dir, "dev")); err != nil {
		return err
	}
	for _, do := range []func() error{func() error { return e.make(n) }, e.register, e.keys, e.transactions, e.prove} {
		if err := do(); err != nil {
			return err
		}
	}
	e.out.Seconds = time.Since(began).Seconds()
	r.results.Enrolment = e.out
	return nil
}

// stateDirectory is in memory where it can be: that a terminal keeps its state is not what is
// measured.
func stateDirectory(other string) (string, error) {
	if dir, err := os.MkdirTemp("/dev/shm", "keyd-bench-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp(other, "terminals-")
}

// prepare has officers and operators do by hand what they do in production: the maker's
// authority, the hosts' key pairs and certificates; then the key sets of this load.
func (e *enrolling) prepare(dev string) error {
	e.say("    officers decide whose terminals are believed, and make the hosts' key pairs")
	prepare := exec.CommandContext(e.ctx, e.binary, "terminal", "simulate", "prepare", "--dir", dev)
	if out, err := prepare.CombinedOutput(); err != nil {
		return fmt.Errorf("keyd terminal simulate prepare: %w\n%s", err, out)
	}
	var err error
	if e.maker, err = simulator.OpenAuthority(filepath.Join(dev, "maker")); err != nil {
		return err
	}
	if e.hosts, err = simulator.OpenAuthority(filepath.Join(dev, "hosts")); err != nil {
		return err
	}
	for as, conn := range map[string]**grpc.ClientConn{"officer-1": &e.officer, "switch": &e.host} {
		if *conn, err = e.server.dial(as); err != nil {
			return err
		}
		e.server.conns = append(e.server.conns, *conn)
	}
	return e.keySets()
}

// keySets makes the two key sets of the load: a master key, and an initial key for PINs and one
// for data, of the bench's own base derivation keys.
func (e *enrolling) keySets() error {
	c := keydv1.NewTerminalServiceClient(e.officer)
	list, err := c.ListKeyHosts(e.ctx, &keydv1.ListKeyHostsRequest{})
	if err != nil {
		return fmt.Errorf("list key hosts: %w", err)
	}
	var agreement, tr34 string
	for _, h := range list.GetKeyHosts() {
		leaf, err := x509.ParseCertificate(h.GetCertificates()[0])
		switch {
		case err != nil:
			return err
		case leaf.PublicKeyAlgorithm == x509.RSA:
			tr34 = h.GetName()
		default:
			agreement = h.GetName()
		}
	}
	initial := func(bdk string, prefix []byte) []*keydv1.KeySet_InitialKey {
		const half = maxTerminals / 2
		return []*keydv1.KeySet_InitialKey{
			{Name: "pin", KeyId: bdk, Prefix: prefix, First: 0, Last: half - 1},
			{Name: "data", KeyId: bdk, Prefix: prefix, First: half, Last: maxTerminals - 1},
		}
	}
	for _, set := range []*keydv1.KeySet{
		{
			Name: setAES, Methods: []keydv1.InjectionMethod{keydv1.InjectionMethod_KEY_AGREEMENT}, KeyAgreementHost: agreement,
			MasterKey: &keydv1.KeySet_MasterKey{Algorithm: "A", Length: 16}, InitialKeys: initial(bdkAES, []byte{0x12, 0x34, 0x56, 0x78}),
		},
		{
			Name:             setTDES,
			Methods:          []keydv1.InjectionMethod{keydv1.InjectionMethod_KEY_AGREEMENT, keydv1.InjectionMethod_TR34_TWO_PASS, keydv1.InjectionMethod_TR34_ONE_PASS},
			KeyAgreementHost: agreement, Tr34Host: tr34,
			MasterKey: &keydv1.KeySet_MasterKey{Algorithm: "T", Length: 16}, InitialKeys: initial(bdkTDES, []byte{0xFF, 0xFF, 0x98, 0x76, 0x54}),
		},
	} {
		if _, err := c.SetKeySet(e.ctx, &keydv1.SetKeySetRequest{KeySet: set}); err != nil {
			return fmt.Errorf("key set %s: %w", set.Name, err)
		}
	}
	return nil
}

// make makes the terminals with their key pairs and the maker's certificates.
func (e *enrolling) make(n int) error {
	for i := range methods {
		m := &methods[i]
		count := max(1, n*m.of/100)
		if m.by != keydv1.InjectionMethod_KEY_AGREEMENT {
			count = min(count, rsaMost/2)
			e.out.RSA += count
		}
		for range count {
			e.all = append(e.all, &enrolled{id: fmt.Sprintf("t-%05d", len(e.all)), method: m, card: e.cards.draw()})
		}
	}
	for len(e.all) < n { // what rounding has left over
		e.all = append(e.all, &enrolled{id: fmt.Sprintf("t-%05d", len(e.all)), method: &methods[0], card: e.cards.draw()})
	}
	e.out.Terminals = len(e.all)
	anchors := [][]byte{e.hosts.Certificate.Raw}
	return e.each("terminals made", e.all, false, func(_ context.Context, t *enrolled) error {
		algorithm := "P-256"
		if t.method.by != keydv1.InjectionMethod_KEY_AGREEMENT {
			algorithm = "RSA-2048"
		}
		key, err := simulator.GenerateKey(algorithm)
		if err != nil {
			return err
		}
		t.key = key.Public()
		if t.device, err = simulator.NewDevice(filepath.Join(e.dir, t.id), t.id, "", key); err != nil {
			return err
		}
		certificate, err := e.maker.Device(t.id, t.key)
		if err != nil {
			return err
		}
		if err := t.device.SetCertificates([][]byte{certificate}); err != nil {
			return err
		}
		return t.device.BelieveHosts(anchors)
	})
}

// register registers the terminals and says which keys each gets.
func (e *enrolling) register() error {
	c := keydv1.NewTerminalServiceClient(e.officer)
	return e.each("registered", e.all, true, func(ctx context.Context, t *enrolled) error {
		own, err := t.device.TLSCertificate()
		if err != nil {
			return err
		}
		if _, err := c.RegisterTerminal(ctx, &keydv1.RegisterTerminalRequest{
			TerminalId: t.id, Owner: "bench", Model: "simulated", SerialNumber: t.id, Certificates: own.Certificate,
		}); err != nil {
			return err
		}
		_, err = c.AssignKeySet(ctx, &keydv1.AssignKeySetRequest{TerminalId: t.id, KeySet: t.method.set})
		return err
	})
}

// keys gives the terminals their keys, method by method. Each connects with its own certificate,
// checks the host, asks, and confirms.
func (e *enrolling) keys() error {
	roots, err := e.server.roots()
	if err != nil {
		return err
	}
	for i := range methods {
		m := &methods[i]
		var of []*enrolled
		for _, t := range e.all {
			if t.method == m {
				of = append(of, t)
			}
		}
		err := e.each(m.name, of, true, func(ctx context.Context, t *enrolled) (err error) {
			own, err := t.device.TLSCertificate()
			if err != nil {
				return err
			}
			conn, err := grpc.NewClient(e.server.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
				MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{own},
			})), grpc.WithDisableServiceConfig())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Close()) }()
			c := keydv1.NewTerminalServiceClient(conn)
			if _, err := t.device.FetchHost(ctx, c, m.by); err != nil {
				return err
			}
			_, err = t.device.FetchKeys(ctx, c, m.by, simulator.FetchOptions{})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// transactions has each terminal encipher the PIN of a card, which keyd verifies for the switch.
func (e *enrolling) transactions() error {
	c := keydv1.NewPinServiceClient(e.host)
	return e.each("transactions", e.all, true, func(ctx context.Context, t *enrolled) error {
		format := pinblock.ISO0
		if t.method.set == setAES {
			format = pinblock.ISO4
		}
		account, digits := pan(t.card), pin(t.card)
		sent, err := t.device.Send(simulator.Under{Register: "pin"}, simulator.Message{Format: format, PAN: string(account[:]), PIN: digits[:]})
		if err != nil {
			return err
		}
		var verifying software.TDESKey
		if err := verifying.Set(keyValue(pvk)); err != nil {
			return err
		}
		value := pvv(&verifying, account, digits)
		answer, err := c.VerifyPinData(ctx, &keydv1.VerifyPinDataRequest{
			Incoming: sent.PINKey, EncryptedPinBlock: sent.PINBlock, PrimaryAccountNumber: string(account[:]), VerificationKeyId: pvk,
			Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: string(value[:])}}},
		})
		if err != nil {
			return err
		}
		if !answer.GetVerified() {
			return fmt.Errorf("keyd has not verified the PIN of terminal %s", t.id)
		}
		return nil
	})
}
