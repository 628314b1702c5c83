// Command switch-stream has many PIN blocks translated at once on a few streams, as a
// busy switch does, and says how fast that was. It calls a development service that has its
// sample keys:
//
//	bin/keyd dev --dir ./try --listen 127.0.0.1:7443
//	go run ./examples/switch-stream -certs ./try/certs 127.0.0.1:7443
//
// Several addresses are several keyds with the same keys and certificates. Stop one while
// this runs: nothing fails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/client"
)

func main() {
	certs := flag.String("certs", "try/certs", "directory of ca.crt, switch.crt and switch.key")
	callers := flag.Int("callers", 200, "goroutines that have a translation under way each")
	count := flag.Int("count", 20_000, "translations")
	flag.Parse()
	if err := run(*certs, flag.Args(), *callers, *count); err != nil {
		fmt.Fprintln(os.Stderr, "switch-stream:", err)
		os.Exit(1)
	}
}

func run(certs string, addresses []string, callers, count int) error {
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

	// From one zone to itself, the PIN block of the README: a real switch has another
	// block, account and key each time.
	key := &keydv1.PinKey{KeyId: "zone-issuer", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	request := &keydv1.TranslatePinDataRequest{
		Incoming: key, Outgoing: key, PrimaryAccountNumber: "4564320000980369",
		EncryptedPinBlock: []byte{0x85, 0xBC, 0x68, 0xE1, 0xBA, 0xCA, 0x5E, 0xD5},
	}
	s := c.Stream(client.StreamConfig{InFlight: callers})
	var left, failed atomic.Int64
	left.Store(int64(count))
	began := time.Now()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				_, err := s.Translate(ctx, request)
				cancel()
				if err != nil {
					failed.Add(1)
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	fmt.Printf("%d translations in %v, %.0f/s; %d failed\n",
		count, took.Round(time.Millisecond), float64(count)/took.Seconds(), failed.Load())
	if failed.Load() > 0 {
		return errors.New("there were failures")
	}
	return nil
}
