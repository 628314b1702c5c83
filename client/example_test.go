package client_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"log"
	"sync"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/client"
)

// A switch has a block of a terminal translated, and an issuer host has the PIN verified.
func Example() {
	c, err := client.New(client.Config{
		Addresses:   []string{"keyd-a.example:7443", "keyd-b.example:7443"},
		CA:          "/etc/switch/keyd-ca.crt",
		Certificate: "/etc/switch/switch.crt", // may be replaced while the switch runs
		Key:         "/etc/switch/switch.key",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ksn, _ := hex.DecodeString("FFFF9876543210E00001")
	block, _ := hex.DecodeString("F79ED84192AB8D24")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	zone := &keydv1.PinKey{KeyId: "zone-issuer", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	translated, err := c.Pin().TranslatePinData(ctx, &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{
			KeyId:  "bdk-tdes",
			Dukpt:  &keydv1.DukptAttributes{KeySerialNumber: ksn},
			Format: keydv1.PinBlockFormat_ISO_FORMAT_0,
		},
		Outgoing:             zone,
		PrimaryAccountNumber: "4564320000980369",
		EncryptedPinBlock:    block,
	})
	if err != nil {
		reason, id := client.ReasonOf(err)
		log.Fatalf("refused: %s (request %s): %v", reason, id, err)
	}

	verified, err := c.Pin().VerifyPinData(ctx, &keydv1.VerifyPinDataRequest{
		Incoming:             zone,
		VerificationKeyId:    "pvk-visa",
		PrimaryAccountNumber: "4564320000980369",
		EncryptedPinBlock:    translated.EncryptedPinBlock,
		Expected:             &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: "3856"}}},
	})
	switch client.OutcomeOf(verified, err) {
	case client.Right:
		fmt.Println("approve")
	case client.Wrong:
		fmt.Println("wrong PIN") // response code 55
	case client.Refused:
		reason, _ := client.ReasonOf(err)
		fmt.Println("not verified:", reason) // no wrong PIN: do not count it against the cardholder
	default:
		fmt.Println("no answer:", err) // a try may have been counted
	}
}

// Many goroutines share a few streams.
func ExampleClient_Stream() {
	c, err := client.New(client.Config{
		Addresses:   []string{"keyd-a.example:7443", "keyd-b.example:7443"},
		CA:          "/etc/switch/keyd-ca.crt",
		Certificate: "/etc/switch/switch.crt",
		Key:         "/etc/switch/switch.key",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	s := c.Stream(client.StreamConfig{InFlight: 400})
	var requests []*keydv1.TranslatePinDataRequest // of many terminals
	var all sync.WaitGroup
	for _, request := range requests {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			translated, err := s.Translate(ctx, request)
			if err != nil {
				log.Print(err)
				return
			}
			fmt.Printf("%X\n", translated.EncryptedPinBlock)
		})
	}
	all.Wait()
}
