package tr34

import (
	"crypto/x509"
	"time"
)

// Credential is what a credential token holds. Nothing in it was verified.
type Credential struct {
	Certificate *x509.Certificate   // of the host or device
	CAs         []*x509.Certificate // other certificates
	CRLs        [][]byte            // in DER
}

// CredentialToken encodes CT_KRD or CT_KDH (TR 34-2019 B.6 and B.7): a SignedData without a
// signer, with a certificate, and CRLs if there are any. CT_KDH has the CRL of the hosts' CA.
// The errors are [ErrCertificate], [ErrCRL] and [ErrTooLarge].
func CredentialToken(certificate *x509.Certificate, crls ...[]byte) ([]byte, error) {
	if certificate == nil || len(certificate.Raw) == 0 {
		return nil, ErrCertificate
	}
	if _, err := parseCRLs(crls); err != nil {
		return nil, err
	}
	s := &signed{kind: idData, certificates: [][]byte{certificate.Raw}, crls: crls}
	return s.token(nil, true)
}

// ReadCredential reads CT_KRD or CT_KDH. One of its certificates is no CA's. The errors are
// those of the encoding in errors.go.
func ReadCredential(token []byte) (*Credential, error) {
	s, err := readToken(token)
	if err != nil {
		return nil, err
	}
	if s.signer != nil || s.content != nil || !s.kind.Equal(idData) {
		return nil, ErrStructure
	}
	return s.credential()
}

func (s *signed) credential() (*Credential, error) {
	credential := &Credential{}
	for _, der := range s.certificates {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return nil, ErrCertificate
		case c.IsCA:
			credential.CAs = append(credential.CAs, c)
		case credential.Certificate != nil:
			return nil, ErrCredential
		default:
			credential.Certificate = c
		}
	}
	if credential.Certificate == nil {
		return nil, ErrCredential
	}
	if _, err := parseCRLs(s.crls); err != nil {
		return nil, err
	}
	for _, der := range s.crls {
		credential.CRLs = append(credential.CRLs, append([]byte(nil), der...))
	}
	return credential, nil
}

// OpenCredential reads a credential token and verifies its certificate for a role, with the
// CRLs in it and those that the caller has besides. A device that opens its host's keeps the
// certificate and is bound to that host (TR 34-2019, bind phase). The errors are those of
// [ReadCredential] and [Trust.Verify].
func (t *Trust) OpenCredential(token []byte, role Role, crls [][]byte, now time.Time) (*Credential, error) {
	credential, err := ReadCredential(token)
	if err != nil {
		return nil, err
	}
	all := append(append([][]byte(nil), credential.CRLs...), crls...)
	if err := t.Verify(credential.Certificate, role, all, now); err != nil {
		return nil, err
	}
	return credential, nil
}
