package hsm

import (
	"context"

	"keyd/hsm/internal/wire"
)

// InjectByAgreement is a terminal's request for initial keys by key agreement (package
// keyagreement), and what the host answers with.
type InjectByAgreement struct {
	Request          []byte   // the terminal's message
	Host             Key      // key pair with which the host signs
	HostCertificates [][]byte // DER, 1 to 5: the first is of that key pair
	RevocationLists  [][]byte // DER, at most 8
	Keys             []InitialKey
}

// InitialKey names an initial key: its base derivation key, and 10 bytes (TDES: the key serial
// number with counter 0) or 8 bytes (AES: the initial key ID).
type InitialKey struct {
	BDK Key
	ID  []byte
}

// Injected is what goes to the terminal, and what is kept of it.
type Injected struct {
	Answer      []byte   // the host's message
	Device      []byte   // SHA-256 of the device's public key, 32 bytes
	CheckValues []string // of the initial keys, in their order
}

// InjectByAgreement has a module answer a terminal. Whose each key is stays for good. Errors are
// refusals of package fault.
func (c *Client) InjectByAgreement(ctx context.Context, r InjectByAgreement) (*Injected, error) {
	m := &wire.InjectByAgreement{Request: r.Request, Host: r.Host.wire(), HostCertificates: r.HostCertificates, RevocationLists: r.RevocationLists}
	for i := range r.Keys {
		m.Keys = append(m.Keys, &wire.InitialKey{Bdk: r.Keys[i].BDK.wire(), Id: r.Keys[i].ID})
	}
	var answer wire.InjectedByAgreement
	if err := c.call(ctx, 0, wire.OpInjectByAgreement, m, &answer); err != nil {
		return nil, err
	}
	return &Injected{Answer: answer.Answer, Device: answer.Device, CheckValues: answer.CheckValues}, nil
}
