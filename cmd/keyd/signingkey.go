package main

import (
	"crypto"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"keyd/officer"
	smartcard "keyd/officer/card"
)

// signingKey holds the flags of an officer's key.
type signingKey struct {
	file                 string
	library, token, card string
	passphraseFD         int
}

func (k *signingKey) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&k.file, "officer-key", "", "the officer's key file (keyd officer key --new makes one)")
	f.StringVar(&k.library, "card", "", "PKCS#11 library of the officer's smart card, in place of --officer-key")
	f.StringVar(&k.token, "card-token", "", "with --card: label of the card")
	f.StringVar(&k.card, "card-key", "", "with --card: label of the key, where there are several")
	k.passphraseFlag(c)
	c.MarkFlagsMutuallyExclusive("officer-key", "card")
	c.MarkFlagsRequiredTogether("card", "card-token")
}

func (k *signingKey) passphraseFlag(c *cobra.Command) {
	fdFlag(c, &k.passphraseFD, "passphrase-fd", "descriptor with the passphrase, or the card's PIN, on one line (default: the terminal)")
}

// fdFlag is a flag of a descriptor, -1 where there is none.
func fdFlag(c *cobra.Command, fd *int, name, usage string) {
	c.Flags().IntVar(fd, name, -1, usage)
	c.Flags().Lookup(name).DefValue = "0" // which help texts leave out
}

// open opens the key. The function that it returns closes it.
func (k *signingKey) open() (crypto.Signer, func(), error) {
	if err := officer.Guard(); err != nil {
		return nil, nil, err
	}
	if k.library != "" {
		pin, forget, err := k.passphrase("PIN of the card " + k.token)
		if err != nil {
			return nil, nil, err
		}
		c, err := smartcard.Open(k.library, k.token, k.card, pin)
		if err != nil {
			forget()
			return nil, nil, err
		}
		return c, func() { _ = c.Close(); forget() }, nil
	}
	if k.file == "" {
		return nil, nil, errors.New("name the officer's key: --officer-key FILE, or --card LIBRARY --card-token LABEL")
	}
	passphrase, forget, err := k.passphrase("Passphrase of " + k.file)
	if err != nil {
		return nil, nil, err
	}
	defer forget()
	signer, err := officer.OpenKey(k.file, passphrase)
	return signer, func() {}, err
}

// passphrase returns what asks for the passphrase. A descriptor is read once, though a card
// may ask at each signature.
func (k *signingKey) passphrase(label string) (ask func() ([]byte, error), forget func(), err error) {
	if k.passphraseFD < 0 {
		return func() (typed []byte, err error) {
			err = officer.Ask(func(t *officer.Terminal) error { typed, err = t.Passphrase(label, false); return err })
			return typed, err
		}, func() {}, nil
	}
	f, err := descriptor("--passphrase-fd", k.passphraseFD)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	line, err := officer.PassphraseFrom(f)
	if err != nil {
		return nil, nil, fmt.Errorf("--passphrase-fd: %w", err)
	}
	defer clear(line)
	kept, err := officer.NewSecret(len(line))
	if err != nil {
		return nil, nil, err
	}
	copy(kept.Bytes(), line)
	return func() ([]byte, error) { return append([]byte(nil), kept.Bytes()...), nil }, kept.Destroy, nil
}

// descriptor returns an inherited descriptor.
func descriptor(flag string, fd int) (*os.File, error) {
	// One without a type is of Go's own making: the number was not open when keyd started.
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil || info.Mode&unix.S_IFMT == 0 {
		return nil, fmt.Errorf("%s: descriptor %d is not open: in a shell, open it with %d<FILE or %d>FILE", flag, fd, fd, fd)
	}
	return os.NewFile(uintptr(fd), flag), nil
}
