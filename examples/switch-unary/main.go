// Command switch-unary does what a switch does with one PIN: it has the block of a
// terminal translated to the issuer's zone key, and the PIN verified. It calls a development
// service that has its sample keys:
//
//	bin/keyd dev --dir ./try --listen 127.0.0.1:7443
//	go run ./examples/switch-unary -certs ./try/certs 127.0.0.1:7443
//
// Several addresses are several keyds with the same keys and certificates.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/client"
)

func main() {
	certs := flag.String("certs", "try/certs", "directory of ca.crt, switch.crt and switch.key")
	ksn := flag.String("ksn", "FFFF9876543210E00001", "key serial number of the terminal's transaction")
	block := flag.String("block", "F79ED84192AB8D24", "PIN block, from: keyd terminal encrypt-pin")
	pan := flag.String("pan", "4564320000980369", "account number")
	pvv := flag.String("pvv", "3856", "what the PIN is verified by")
	flag.Parse()
	if err := run(*certs, flag.Args(), *ksn, *block, *pan, *pvv); err != nil {
		fmt.Fprintln(os.Stderr, "switch-unary:", err)
		os.Exit(1)
	}
}

func run(certs string, addresses []string, ksnText, blockText, pan, pvv string) error {
	c, err := client.New(client.Config{
		Addresses:   addresses,
		CA:          filepath.Join(certs, "ca.crt"),
		Certificate: filepath.Join(certs, "switch.crt"),
		Key:         filepath.Join(certs, "switch.key"),
	})
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the answers are there
	ksn, err1 := hex.DecodeString(ksnText)
	block, err2 := hex.DecodeString(blockText)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	zone := &keydv1.PinKey{KeyId: "zone-issuer", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	translated, err := c.Pin().TranslatePinData(ctx, &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{
			KeyId:  "bdk-tdes",
			Dukpt:  &keydv1.DukptAttributes{KeySerialNumber: ksn},
			Format: keydv1.PinBlockFormat_ISO_FORMAT_0,
		},
		Outgoing:             zone,
		PrimaryAccountNumber: pan,
		EncryptedPinBlock:    block,
	})
	if err != nil {
		reason, id := client.ReasonOf(err)
		return fmt.Errorf("translate: reason %q, request %q: %w", reason, id, err)
	}
	fmt.Printf("translated  %X\n", translated.EncryptedPinBlock)

	verified, err := c.Pin().VerifyPinData(ctx, &keydv1.VerifyPinDataRequest{
		Incoming:             zone,
		VerificationKeyId:    "pvk-visa",
		PrimaryAccountNumber: pan,
		EncryptedPinBlock:    translated.EncryptedPinBlock,
		Expected:             &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: pvv}}},
	})
	outcome := client.OutcomeOf(verified, err)
	fmt.Printf("the PIN is  %v\n", outcome)
	if outcome != client.Right && outcome != client.Wrong {
		return err
	}
	return nil
}
