package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/client"
)

// TestClientLosesNoCallWhileAnOperatorWorks does to a service under load what an operator
// does in a year: certificates and authorities are rotated on both sides, the policy is
// replaced, also by a wrong one, and the front is started again. No call fails.
func TestClientLosesNoCallWhileAnOperatorWorks(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	pvk := ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	mac, data := ring.add("M3", "T", "C", zoneTDES), ring.add("D0", "A", "B", zoneAES)
	s := start(t, ring.keys...)
	certificate, key := s.file("config", "server.crt"), s.file("config", "server.key")
	clients, policy := s.file("certs", "ca.crt"), s.file("config", "policy.yaml")
	oldClients, oldPolicy := s.read(clients), s.read(policy)

	// The switch has files of its own, which trust both authorities from the beginning.
	other := newAuthority(t, "another CA")
	mine := tempDir(t)
	write := func(name string, content []byte) string {
		path := filepath.Join(mine, name)
		if err := os.WriteFile(path+".next", content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".next", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c, err := client.New(client.Config{
		Addresses:   []string{s.address},
		CA:          write("ca.crt", append(bytes.Clone(oldClients), pemOf(other.certificate)...)),
		Certificate: write("switch.crt", s.read(s.file("certs", "switch.crt"))),
		Key:         write("switch.key", s.read(s.file("certs", "switch.key"))),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	l, stop := newClientLoad(t, ring, c, bdk, pvk)
	defer stop()
	l.macsAndData(c, mac, data)
	l.goesOn("start")

	// A policy that says the same in another way, then one that says nothing.
	s.replace(policy, append(bytes.Clone(oldPolicy), "\n# changed\n"...))
	s.reload(loaded)
	l.goesOn("another policy")
	s.replace(policy, []byte("version: ["))
	s.reload(kept)
	l.goesOn("a wrong policy")
	s.replace(policy, oldPolicy)
	s.reload(loaded)

	// A server certificate of another authority.
	_, newCertificate, newKey := other.server(t, time.Time{})
	s.replace(certificate, newCertificate)
	s.replace(key, newKey)
	s.reload(loaded)
	l.goesOn("another server certificate")

	// Client authorities: the new one comes, the switch gets its certificate, the old one goes.
	s.replace(clients, append(bytes.Clone(oldClients), pemOf(other.certificate)...))
	s.reload(loaded)
	l.goesOn("another client authority")
	renewed := other.client(t, "switch", other.certificate).Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(renewed.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write("switch.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write("switch.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: renewed.Certificate[0]}))
	kill(processes(s.status(), "front")[0]) // everybody connects anew
	l.goesOn("the front was killed")
	s.replace(clients, pemOf(other.certificate))
	s.reload(loaded)
	l.goesOn("the old authority has gone")
}

// macsAndData makes and verifies MACs, and moves data to another key and back.
func (l *clientLoad) macsAndData(c *client.Client, mac, key string) {
	macs, data := c.Mac(), c.Data()
	retail := &keydv1.MacKey{KeyId: mac, Algorithm: keydv1.MacKey_ISO9797_ALGORITHM3}
	cbc, ctr := &keydv1.DataKey{KeyId: key, Mode: keydv1.DataKey_CBC}, &keydv1.DataKey{KeyId: key, Mode: keydv1.DataKey_CTR}
	message := []byte("sixteen bytes...")
	var count atomic.Int64
	for range 4 {
		l.all.Go(func() {
			for l.ctx.Err() == nil {
				var made *keydv1.GenerateMacResponse
				var sealed *keydv1.EncryptDataResponse
				var moved *keydv1.ReEncryptDataResponse
				if !l.call(&count, "a MAC", func(ctx context.Context) (err error) {
					made, err = macs.GenerateMac(ctx, &keydv1.GenerateMacRequest{Key: retail, Message: message})
					return err
				}) || !l.call(&count, "a MAC's verification", func(ctx context.Context) error {
					verified, err := macs.VerifyMac(ctx, &keydv1.VerifyMacRequest{Key: retail, Message: message, Mac: made.GetMac()})
					if err == nil && !verified.Verified {
						err = fmt.Errorf("a MAC does not verify: %X", made.GetMac())
					}
					return err
				}) || !l.call(&count, "data", func(ctx context.Context) (err error) {
					sealed, err = data.EncryptData(ctx, &keydv1.EncryptDataRequest{Key: cbc, Plaintext: message})
					return err
				}) || !l.call(&count, "data to another mode", func(ctx context.Context) (err error) {
					moved, err = data.ReEncryptData(ctx, &keydv1.ReEncryptDataRequest{Incoming: cbc, Outgoing: ctr, Ciphertext: sealed.GetCiphertext(), InitializationVector: sealed.GetInitializationVector()})
					return err
				}) || !l.call(&count, "data again", func(ctx context.Context) error {
					back, err := data.DecryptData(ctx, &keydv1.DecryptDataRequest{Key: ctr, Ciphertext: moved.GetCiphertext(), InitializationVector: moved.GetInitializationVector()})
					if err == nil && !bytes.Equal(back.Plaintext, message) {
						err = fmt.Errorf("other data: %q", back.Plaintext)
					}
					return err
				}) {
					return
				}
			}
		})
	}
}
