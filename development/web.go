package development

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"

	"keyd/config"
	"keyd/policies"
)

// pagesAt is where the development policy sends phones, until a port is known.
const pagesAt = "localhost:8443"

// policy writes the policy where there is none, with a port at which the pages for phones can be served. A
// port that somebody else has taken meanwhile is replaced; passkeys that were made at the old one are of
// no use at another.
func (s *Service) policy() error {
	path := s.path("config", "policy.yaml")
	b, err := os.ReadFile(path)
	switch {
	case os.IsNotExist(err):
		return withPort(path, policies.Dev, pagesAt)
	case err != nil:
		return err
	}
	host := pagesHost(path)
	if host == "" {
		return nil
	}
	l, err := net.Listen("tcp", loopback(host))
	if err != nil {
		return withPort(path, b, host)
	}
	return l.Close()
}

// withPort writes a policy in which a free port stands where the host of the pages does.
func withPort(path string, policy []byte, host string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if closed := l.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	old := []byte("code_host: \"" + host + "\"")
	if bytes.Count(policy, old) != 1 {
		return fmt.Errorf("%s: the port of %s cannot be had: write code_host: \"localhost:PORT\" with another", path, host)
	}
	return replaceFile(path, bytes.Replace(policy, old, []byte("code_host: \"localhost:"+port+"\""), 1), 0o644)
}

// pagesHost is where a policy sends phones, if that is a port of this machine; a policy that cannot be read
// is for the service to refuse.
func pagesHost(path string) string {
	p, err := policies.Load(path)
	if err != nil {
		return ""
	}
	v := p.Voids()
	if v == nil || v.Phone == nil || !strings.HasPrefix(v.CodeHost, "localhost:") {
		return ""
	}
	return v.CodeHost
}

// loopback is where a host of this machine is listened at.
func loopback(host string) string { return "127.0.0.1" + strings.TrimPrefix(host, "localhost") }

// web is the listener for phones: at the host that the policy says, with the certificate of the service,
// which names localhost.
func (s *Service) web() config.Web {
	host := pagesHost(s.path("config", "policy.yaml"))
	if host == "" {
		return config.Web{}
	}
	return config.Web{Listen: loopback(host), Certificate: s.path("config", "server.crt"), Key: s.path("config", "server.key")}
}
