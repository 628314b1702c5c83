package terminals

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"keyd/fault"
	"keyd/hsm"
	"keyd/receipt"
)

// ledger stands for modules: it makes no keys, but keeps the promises that the front relies on.
// An initial key is one device's for ever, one request gets one choice of keys, and what it says
// has the forms of package receipt. It outlives fronts and their databases, as modules' does.
type ledger struct {
	t        testing.TB
	identity *ecdsa.PrivateKey

	mu       sync.Mutex
	devices  map[string][32]byte // of initial keys
	requests map[string]string   // choices of requests
	asked    int                 // injections
	given    map[string]int      // times that an initial key left for a device

	before error // instead of doing anything
	after  error // when everything is done
}

func newLedger(t testing.TB) *ledger {
	return &ledger{t: t, identity: newKey(t, elliptic.P384()), devices: map[string][32]byte{}, requests: map[string]string{}, given: map[string]int{}}
}

func (l *ledger) InjectByAgreement(_ context.Context, r hsm.InjectByAgreement) (*hsm.Injected, error) {
	return l.inject(&r.Injection, receipt.ByAgreement, r.Request)
}

func (l *ledger) InjectByToken(_ context.Context, r hsm.InjectByToken) (*hsm.Injected, error) {
	if r.RandomToken == nil {
		return l.inject(&r.Injection, receipt.ByOnePass, nil)
	}
	return l.inject(&r.Injection, receipt.ByTwoPass, r.RandomToken)
}

func (l *ledger) inject(r *hsm.Injection, method string, request []byte) (*hsm.Injected, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.before != nil {
		return nil, l.before
	}
	choice := fmt.Sprintf("%x %+v", r.Device, r.Master)
	names := make([]string, len(r.Keys))
	for i, k := range r.Keys {
		names[i] = fmt.Sprintf("%s %X", k.BDK.Name, k.ID)
		choice += names[i]
		if whose, known := l.devices[names[i]]; known && whose != r.Device {
			return nil, fault.New(fault.InitialKeyAllotted, "")
		}
	}
	if request != nil {
		at := string(r.Device[:]) + string(request)
		if before, known := l.requests[at]; known && before != choice {
			return nil, fault.New(fault.RequestReplayed, "")
		}
		l.requests[at] = choice
	}
	record := &receipt.Record{
		Injection: hex.EncodeToString(r.ID[:]), Terminal: r.Terminal, Device: hex.EncodeToString(r.Device[:]), Method: method, Host: r.Host.Name, At: moment.Unix(),
	}
	usage := "K1"
	if r.Master.Bare {
		usage = "K0"
	}
	digest := strings.Repeat("0", 64)
	record.Keys = append(record.Keys,
		receipt.Key{Name: "master", Usage: usage, Algorithm: r.Master.Algorithm, Length: uint16(r.Master.Length), CheckValue: "00AA01", Header: digest},
		receipt.Key{Name: "receipt", Usage: "M6", Algorithm: "A", Length: 16, CheckValue: "00AA02", Header: digest})
	for i, k := range r.Keys {
		l.devices[names[i]] = r.Device
		l.given[names[i]]++
		record.Keys = append(record.Keys, receipt.Key{
			Name: k.Name, Usage: "B1", Algorithm: "A", Length: 16, BDK: k.BDK.Name, BDKVersion: 1, ID: strings.ToUpper(hex.EncodeToString(k.ID)), CheckValue: "00AA03",
		})
	}
	if l.after != nil {
		return nil, l.after
	}
	encoded, err := record.Encode()
	if err != nil {
		return nil, err
	}
	answer := make([]byte, 64)
	_, _ = rand.Read(answer)
	return &hsm.Injected{
		Answer: answer, KeyBlocks: []string{"D0001"}, Record: append(encoded, make([]byte, receipt.CodeSize)...),
		Master: l.seal(r.Terminal, "master", 1, record.Device, usage, "A", 0), ReceiptKey: l.seal(r.Terminal, "receipt", 1, record.Device, "M6", "A", 0),
	}, nil
}

// seal makes a sealed key that parses. Its MAC is noise, which only modules see.
func (l *ledger) seal(terminal, name string, version uint32, device, usage, algorithm string, notAfter int64) []byte {
	return sealed(l.t, &hsm.Header{
		Name: hsm.TerminalPrefix + terminal + ":" + name, Version: version, Generation: 1, Usage: usage, Algorithm: algorithm, Length: 16, Mode: "B", Exportability: "N",
		CheckValue: "00AA00", Fingerprint: "00", Custody: hsm.CustodyToken, Device: device, NotAfter: notAfter,
	})
}

func sealed(t testing.TB, h *hsm.Header) []byte {
	t.Helper()
	noise := make([]byte, 24+hsm.MACSize)
	_, _ = rand.Read(noise)
	parts := [][]byte{noise[:24]}
	if h.Object != "" {
		parts = nil
	}
	body, err := hsm.SealedBody(h, parts)
	if err != nil {
		t.Fatal(err)
	}
	return append(body, noise[24:]...)
}

// mac is the MAC of every terminal's receipt here.
var mac = bytes.Repeat([]byte{7}, 16)

func (l *ledger) ConfirmInjection(_ context.Context, r hsm.ConfirmInjection) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before != nil {
		return nil, l.before
	}
	encoded, _, err := receipt.Split(r.Record)
	if err != nil {
		return nil, err
	}
	record, err := receipt.ParseRecord(encoded)
	if err != nil || !bytes.Equal(r.MAC, mac) {
		return nil, errors.Join(err, fault.New(fault.ReceiptInvalid, ""))
	}
	statement, err := receipt.Sign(l.identity, record, &receipt.Receipt{CheckValues: r.CheckValues, MAC: r.MAC}, record.At)
	if err != nil {
		return nil, fault.New(fault.ReceiptInvalid, "")
	}
	return statement, l.after
}

func (l *ledger) MakeSessionKeys(_ context.Context, master hsm.Key, specs []hsm.SessionKeySpec) (made []hsm.SessionKey, err error) {
	s, err := hsm.ParseSealed(master.Sealed)
	if err != nil {
		return nil, err
	}
	terminal := strings.TrimSuffix(strings.TrimPrefix(s.Header.Name, hsm.TerminalPrefix), ":master")
	for _, spec := range specs {
		k := hsm.SessionKey{Sealed: l.seal(terminal, spec.Name, spec.Version, s.Header.Device, spec.Usage, spec.Algorithm, spec.NotAfter), CheckValue: "00AA04", KeyBlock: "D0002"}
		if s.Header.Usage == "K0" {
			k.KeyBlock, k.Cryptogram = "", []byte("cryptogram")
		}
		made = append(made, k)
	}
	return made, l.after
}

func (l *ledger) MakeBindingToken(context.Context, hsm.MakeBindingToken) ([]byte, error) {
	return []byte("token"), l.before
}

// device is the identifier of a device.
func deviceOf(der []byte, t testing.TB) [32]byte {
	return sha256.Sum256(parsed(t, der).RawSubjectPublicKeyInfo)
}
