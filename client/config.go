package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
)

// Config says where the keyds are, who calls, and how calls are repeated. Addresses and
// the caller's certificate are needed; every other zero value is a default.
type Config struct {
	// Addresses are the keyds, each HOST:PORT; or one target dns:///HOST:PORT, whose
	// addresses are looked up and looked up again.
	Addresses []string

	// CA, Certificate and Key are PEM files: the authorities of the servers'
	// certificates, and the caller's certificate and private key. They are read for every
	// new connection, so a renewed certificate needs no restart. keyd asks for a new
	// connection each hour: renew more than an hour before the old one expires. While
	// the files cannot be read, or do not fit together, the last good ones are used.
	CA, Certificate, Key string

	// TLS is in place of the files. It is copied; TLS 1.3 is demanded whatever it says.
	TLS *tls.Config

	// ServerName is the name that every server's certificate must have. The default is
	// for each the host of its address.
	ServerName string

	// ServerID is a URI that every server's certificate must have as well, such as
	// spiffe://bank.example/keyd. Empty: none is asked for.
	ServerID string

	// Timeout is for calls whose context has no deadline, all attempts together. The
	// default is 5 seconds.
	Timeout time.Duration

	// AttemptTimeout bounds an attempt after which there can be another, so that a
	// machine that has vanished does not take the caller's whole time. The default is 2
	// seconds: keyd itself replaces what hangs within about one.
	AttemptTimeout time.Duration

	// Attempts is how often a call is sent at most, the first time included. The default
	// is 6, which with the pauses in between takes a second or two; 1 means that nothing
	// is repeated.
	Attempts int

	// TryRepeats is how often a call that costs a try of the account (VerifyPinData,
	// ChangePinData, VerifyCardValidationData) is sent again at most when it is not known
	// whether the try was counted. The default is 1: at worst, one wrong PIN counts twice.
	// Negative: never.
	TryRepeats int

	// Budget is how many repeats are saved up at most, all calls together. Ten calls that
	// are answered earn one. When it is used up, calls fail at once instead of adding to an outage.
	// The default is 2000; it should be above the number of calls under way, all of
	// which have to be repeated when a keyd is lost.
	Budget int

	// Log is told when the TLS files cannot be read for a new connection. nil: nobody is.
	Log *slog.Logger

	// DialOptions come after the client's own, for tracing and the like. Interceptors of
	// grpc.WithChainUnaryInterceptor see every attempt, one of grpc.WithUnaryInterceptor
	// sees the call.
	DialOptions []grpc.DialOption
}

// The defaults.
const (
	defaultTimeout        = 5 * time.Second
	defaultAttemptTimeout = 2 * time.Second
	defaultAttempts       = 6
	defaultTryRepeats     = 1
	defaultBudget         = 2000
)

// withDefaults returns the configuration with defaults in place of zero values, or what is
// wrong with it.
func (c Config) withDefaults() (Config, error) {
	files := c.CA != "" || c.Certificate != "" || c.Key != ""
	switch {
	case len(c.Addresses) == 0:
		return c, errors.New("no address of a keyd")
	case files && c.TLS != nil:
		return c, errors.New("both TLS and TLS files")
	case c.TLS == nil && (c.CA == "" || c.Certificate == "" || c.Key == ""):
		return c, errors.New("CA, certificate and key are all needed")
	case c.Timeout < 0 || c.AttemptTimeout < 0 || c.Attempts < 0 || c.Budget < 0:
		return c, errors.New("a negative time or number")
	}
	if c.target() == "" {
		seen := make(map[string]bool, len(c.Addresses))
		for _, a := range c.Addresses {
			host, port, err := net.SplitHostPort(a)
			number, wrong := strconv.ParseUint(port, 10, 16)
			if err != nil || wrong != nil || host == "" || number == 0 {
				return c, fmt.Errorf("address %q is not HOST:PORT, nor the only one and dns:///HOST:PORT", a)
			}
			if seen[a] {
				return c, fmt.Errorf("address %q is there twice", a)
			}
			seen[a] = true
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.AttemptTimeout == 0 {
		c.AttemptTimeout = defaultAttemptTimeout
	}
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	if c.TryRepeats == 0 {
		c.TryRepeats = defaultTryRepeats
	}
	if c.Budget == 0 {
		c.Budget = defaultBudget
	}
	return c, nil
}

// target returns the gRPC target that is to be looked up; "" where addresses are listed.
func (c Config) target() string {
	if len(c.Addresses) == 1 && strings.HasPrefix(c.Addresses[0], dnsScheme+":") {
		return c.Addresses[0]
	}
	return ""
}
