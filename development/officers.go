package development

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"keyd/ceremony"
	"keyd/officer"
)

// Officers are the security officers of a development service, by the names of their
// certificates. Their signing keys lie in officers/, without a passphrase.
var Officers = []string{"officer-1", "officer-2", "officer-3"}

// officers makes the officers' signing keys, and the roster of a new token.
func (s *Service) officers() error {
	roster := ceremony.Roster{Quorum: ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2, VersionC: true}}
	for _, name := range Officers {
		path := s.path("officers", name+".key")
		_, err := officer.CreateUnprotectedKey(path)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		signer, err := officer.OpenKey(path, nil)
		if err != nil {
			return fmt.Errorf("%w: remove %s to have it made anew, with the token", err, path)
		}
		if err := writePublic(s.path("officers", name+".pub"), signer.Public()); err != nil {
			return err
		}
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			return err
		}
		roster.Officers = append(roster.Officers, ceremony.Officer{Name: name, Identity: "spiffe://" + TrustDomain + "/" + name, Key: der})
	}
	if err := roster.Validate(); err != nil {
		return err
	}
	var err error
	s.Roster, err = ceremony.Encode(&roster)
	return err
}

func writePublic(path string, key crypto.PublicKey) error {
	text, err := officer.PublicPEM(key)
	if err != nil {
		return err
	}
	if there, err := os.ReadFile(path); err == nil && string(there) == string(text) {
		return nil
	}
	return replaceFile(path, text, 0o644)
}
