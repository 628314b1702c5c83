package injecting

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/simulator"
)

// VoidsDir is where the public keys of void tokens and codes lie in a service's directory.
const VoidsDir = "voids"

// voidPairs are the key pairs that the development policy names.
var voidPairs = []struct{ name, what string }{
	{"void-tokens", "for void tokens (P-256)"},
	{"void-codes", "for codes (P-256)"},
}

// PrepareVoids has officers make the key pairs of void tokens and codes, and that of phones, and writes the
// public keys of the first two. What is there stays; a public key's file that is of another key is written anew.
func PrepareVoids(ctx context.Context, dir string, officers []Officer) ([]Step, error) {
	if len(officers) == 0 {
		return nil, errors.New("there is no officer")
	}
	p := &preparation{dir: dir, officers: officers, keys: keydv1.NewKeyServiceClient(officers[0].Conn)}
	if err := os.MkdirAll(filepath.Join(dir, VoidsDir), 0o755); err != nil {
		return nil, err
	}
	for _, pair := range voidPairs {
		made, err := p.pair(ctx, pair.name, "E", 32)
		if err != nil {
			return p.steps, fmt.Errorf("key pair %s: %w", pair.name, err)
		}
		p.step(made, "key pair %s %s, by a ceremony of officers", pair.name, pair.what)
		if err := p.publicKey(ctx, pair.name); err != nil {
			return p.steps, err
		}
	}
	return p.steps, p.page(ctx)
}

// pageName is the key pair that the development policy names for phones.
const pageName = "void-page"

// page has officers make the key pair with which phones agree on a key for a PIN.
func (p *preparation) page(ctx context.Context) error {
	k, err := p.key(ctx, pageName)
	if err == nil && k == nil {
		err = p.create(ctx, &ceremony.KeySpec{Name: pageName, Version: 1, Usage: "K3", Algorithm: "E", Length: 32, Mode: "X", Exportability: "N", PINKind: hsm.PINRecord})
	}
	if err != nil {
		return fmt.Errorf("key pair %s: %w", pageName, err)
	}
	p.step(k == nil, "key pair %s for phones (P-256), by a ceremony of officers", pageName)
	return nil
}

// publicKey writes that of a key pair.
func (p *preparation) publicKey(ctx context.Context, name string) error {
	k, err := p.key(ctx, name)
	if err != nil {
		return err
	}
	if !isVoidPair(k) {
		return fmt.Errorf("the key %s is not an enabled key pair of usage S0 on P-256: the policy names it for voids", name)
	}
	path := filepath.Join(p.dir, VoidsDir, name+".pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.PublicKey})
	there, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && bytes.Equal(there, text) {
		p.step(false, "public key %s", path)
		return nil
	}
	p.step(true, "public key %s", path)
	return simulator.WriteFile(path, text, 0o644)
}

func isVoidPair(k *keydv1.Key) bool {
	parsed, err := x509.ParsePKIXPublicKey(k.GetPublicKey())
	if err != nil || k.GetUsage() != "S0" || k.GetState() != keydv1.Key_ENABLED {
		return false
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	return ok && public.Curve == elliptic.P256()
}
