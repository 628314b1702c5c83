package hsm

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm/internal/wire"
)

// Injection is what injections by every method have in common. Whatever it says, a module gives
// keys only to a device whose certificate ends at an authority that officers believe.
type Injection struct {
	ID               [16]byte // of the front's choice, for its records
	Terminal         string   // its identifier
	Device           [32]byte // SHA-256 of the public key that the device has to have
	Host             Key      // key pair with which the host signs
	HostCertificates [][]byte // DER, 1 to 5: the first is of that key pair
	Master           MasterSpec
	Keys             []InitialKey // at most 6
}

// MasterSpec is what the terminal's master key is to be, which the module makes at random.
type MasterSpec struct {
	Algorithm string // "T" or "A"
	Length    int    // bytes
	Bare      bool   // session keys go under it as bare cryptograms and in no other form
}

// InitialKey names an initial key: its base derivation key, and 10 bytes (TDES: the key serial
// number with counter 0) or 8 bytes (AES: the initial key ID).
type InitialKey struct {
	Name string // in the record: "pin", "data"
	BDK  Key
	ID   []byte
}

// InjectByAgreement is a terminal's request for keys by key agreement (package keyagreement).
type InjectByAgreement struct {
	Injection
	Request []byte // the terminal's message
}

// InjectByToken asks for a key token of TR-34 (package tr34).
type InjectByToken struct {
	Injection
	DeviceCertificates [][]byte // DER: the device's, then its issuers without the root
	RandomToken        []byte   // RT_KRD; nil in one-pass
	HostList           []byte   // revocation list of the hosts' authority in DER; needed in one-pass
	Profile            string   // what this kind of device needs written otherwise; "" is as the standards say
}

// Injected is what goes to the terminal, and what is kept of it.
type Injected struct {
	Answer     []byte   // the host's message, or KT_KDH with the master key
	KeyBlocks  []string // of a key token: receipt key and initial keys under the master key
	Master     []byte   // the terminal's master key, sealed
	ReceiptKey []byte   // key of the terminal's receipt, sealed
	Record     []byte   // what was given, as package receipt has it, with the modules' MAC
}

// InjectByAgreement has a module answer a terminal. Whose each initial key is stays for good, and
// one request never gets keys of two choices. Errors are refusals of package fault.
func (c *Client) InjectByAgreement(ctx context.Context, r InjectByAgreement) (*Injected, error) {
	return c.inject(ctx, wire.OpInjectByAgreement, &wire.InjectByAgreement{Injection: r.wire(), Request: r.Request})
}

// InjectByToken has a module make a key token, as [Client.InjectByAgreement] does.
func (c *Client) InjectByToken(ctx context.Context, r InjectByToken) (*Injected, error) {
	return c.inject(ctx, wire.OpInjectByToken, &wire.InjectByToken{
		Injection: r.wire(), DeviceCertificates: r.DeviceCertificates, RandomToken: r.RandomToken, HostRevocationList: r.HostList, Profile: r.Profile,
	})
}

func (c *Client) inject(ctx context.Context, op wire.Op, request proto.Message) (*Injected, error) {
	var answer wire.Injected
	if err := c.call(ctx, 0, op, request, &answer); err != nil {
		return nil, err
	}
	return &Injected{Answer: answer.Answer, KeyBlocks: answer.KeyBlocks, Master: answer.Master, ReceiptKey: answer.ReceiptKey, Record: answer.Record}, nil
}

func (i *Injection) wire() *wire.Injection {
	m := &wire.Injection{
		Id: i.ID[:], Terminal: i.Terminal, Device: i.Device[:], Host: i.Host.wire(), HostCertificates: i.HostCertificates,
		Master: &wire.MasterSpec{Algorithm: i.Master.Algorithm, Length: uint32(i.Master.Length), Bare: i.Master.Bare},
	}
	for n := range i.Keys {
		k := &i.Keys[n]
		m.Keys = append(m.Keys, &wire.InitialKey{Bdk: k.BDK.wire(), Id: k.ID, Name: k.Name})
	}
	return m
}

// ConfirmInjection is a terminal's receipt.
type ConfirmInjection struct {
	Record      []byte // of the injection, with the modules' MAC
	ReceiptKey  Key
	CheckValues []string // that the terminal says, of all keys in the order of the record
	MAC         []byte
}

// ConfirmInjection has a module check a receipt, and returns its signed statement (package
// receipt) over record and receipt. Errors are refusals of package fault:
// [fault.ReceiptInvalid] where the receipt is not the terminal's, or of other keys.
func (c *Client) ConfirmInjection(ctx context.Context, r ConfirmInjection) (statement []byte, err error) {
	var answer wire.InjectionConfirmed
	err = c.call(ctx, 0, wire.OpConfirmInjection, &wire.ConfirmInjection{Record: r.Record, ReceiptKey: r.ReceiptKey.wire(), CheckValues: r.CheckValues, Mac: r.MAC}, &answer)
	return answer.Statement, err
}

// SessionKeySpec is a session key to make.
type SessionKeySpec struct {
	Name      string // "pin", "mac", "data": the last part of the key's name
	Usage     string // P0, M1, M3, M6, D0
	Algorithm string
	Length    int    // bytes
	Version   uint32 // of the key of that name, counted by the front
	NotAfter  int64  // Unix seconds, at most a week from now
}

// SessionKey is a key for a terminal's messages.
type SessionKey struct {
	Sealed     []byte
	KeyBlock   string // under the master key, or
	Cryptogram []byte // bare, under a master key that was made for that
	CheckValue string
}

// MakeSessionKeys has a module make keys under a terminal's master key, in the order of specs.
// Errors are refusals of package fault.
func (c *Client) MakeSessionKeys(ctx context.Context, master Key, specs []SessionKeySpec) ([]SessionKey, error) {
	m := &wire.MakeSessionKeys{Master: master.wire()}
	for _, s := range specs {
		m.Keys = append(m.Keys, &wire.SessionKeySpec{Name: s.Name, Usage: s.Usage, Algorithm: s.Algorithm, Length: uint32(s.Length), Version: s.Version, NotAfter: s.NotAfter})
	}
	var answer wire.SessionKeysMade
	if err := c.call(ctx, 0, wire.OpMakeSessionKeys, m, &answer); err != nil {
		return nil, err
	}
	if len(answer.Keys) != len(specs) {
		return nil, fault.Wrap(fault.Internal, errors.New("a module made another number of session keys"))
	}
	keys := make([]SessionKey, len(specs))
	for i, k := range answer.Keys {
		keys[i] = SessionKey{Sealed: k.Sealed, KeyBlock: k.KeyBlock, Cryptogram: k.Cryptogram, CheckValue: k.CheckValue}
	}
	return keys, nil
}

// MakeBindingToken is about a device that is to forget its host, or to get another (TR-34).
type MakeBindingToken struct {
	Host               Key
	HostCertificates   [][]byte
	DeviceCertificates [][]byte
	Device             [32]byte
	RandomToken        []byte
	Profile            string
	NewHost            [][]byte // certificates of the other host; nil: there is none
	HostList           []byte   // revocation list of the hosts' authority; needed with NewHost
}

// MakeBindingToken has a module make UBT_KDH or RBT_KDH. Errors are refusals of package fault.
func (c *Client) MakeBindingToken(ctx context.Context, r MakeBindingToken) (token []byte, err error) {
	var answer wire.BindingTokenMade
	err = c.call(ctx, 0, wire.OpMakeBindingToken, &wire.MakeBindingToken{
		Host: r.Host.wire(), HostCertificates: r.HostCertificates, DeviceCertificates: r.DeviceCertificates, Device: r.Device[:],
		RandomToken: r.RandomToken, Profile: r.Profile, NewHostCertificates: r.NewHost, RevocationList: r.HostList,
	}, &answer)
	return answer.Token, err
}
