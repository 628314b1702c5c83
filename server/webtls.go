package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// WebIdentity is what phones are shown: no client has a certificate there.
type WebIdentity struct {
	Certificate *tls.Certificate
	Serial      string // of the certificate, lower-case hex
	NotAfter    time.Time
	whole       TLSIdentity
}

// CheckTime is as [TLSIdentity.CheckTime].
func (i *WebIdentity) CheckTime(now time.Time) error { return i.whole.CheckTime(now) }

// CheckHost refuses a certificate that is none for a host, which may have a port.
func (i *WebIdentity) CheckHost(host string) error {
	name := strings.ToLower(host)
	if only, _, err := net.SplitHostPort(name); err == nil {
		name = only
	}
	if err := i.Certificate.Leaf.VerifyHostname(name); err != nil {
		return fmt.Errorf("the certificate is none for %s, where the policy (voids.code_host) sends phones: %w", name, err)
	}
	return nil
}

// LoadWebTLS opens the files of a certificate, with its chain, and its key, and reads them, see
// [ReadWebTLS].
func LoadWebTLS(certificate, key string) (*WebIdentity, error) {
	var files OpenTLSFiles
	defer files.Close()
	var err error
	if files.Certificate, err = os.Open(certificate); err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	if files.Key, err = os.Open(key); err != nil {
		return nil, fmt.Errorf("server key: %w", err)
	}
	return ReadWebTLS(files.Certificate, files.Key)
}

// ReadWebTLS reads the files, and does not close them. Errors name the file and what is wrong with it;
// they hold nothing of a key.
func ReadWebTLS(certificate, key *os.File) (*WebIdentity, error) {
	pair, err := readPair(certificate, key)
	if err != nil {
		return nil, err
	}
	whole := TLSIdentity{NotBefore: pair.Leaf.NotBefore, NotAfter: pair.Leaf.NotAfter}
	return &WebIdentity{Certificate: &pair, Serial: pair.Leaf.SerialNumber.Text(16), NotAfter: whole.NotAfter, whole: whole}, nil
}
