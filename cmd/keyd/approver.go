package main

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"keyd/officer"
	"keyd/pinrecord"
)

// approver signs with the key of a certificate.
type approver struct {
	*pinrecord.Approver
	chain [][]byte // DER
	file  string
}

// readApprover reads an approver's certificate and its issuers from a PEM file.
func readApprover(file string) (*approver, error) {
	chain, err := certificateFile(file)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	by, err := pinrecord.ApproverOf(leaf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &approver{by, chain, file}, nil
}

// sign asks at the terminal, unless it is not to, and signs with the key, which has to be the
// certificate's. What is signed was shown before.
func (a *approver) sign(key *signingKey, ask bool, with func(signer crypto.Signer, chain [][]byte) (pinrecord.Signed, error)) (pinrecord.Signed, error) {
	if ask {
		if err := officer.Ask(func(t *officer.Terminal) error { return t.Confirm("Sign it? (yes)", "yes") }); err != nil {
			return pinrecord.Signed{}, err
		}
	}
	signer, closeKey, err := key.open()
	if err != nil {
		return pinrecord.Signed{}, err
	}
	defer closeKey()
	if !a.Key.Equal(signer.Public()) {
		return pinrecord.Signed{}, fmt.Errorf("%s is the certificate of another key", a.file)
	}
	return with(signer, a.chain)
}
