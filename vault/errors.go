package vault

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/hashicorp/vault/api"
)

// Kind says what can be done about an [Error].
type Kind int

// The kinds.
const (
	// Away is a Vault that does not answer, is sealed, or has no time: it is tried again.
	Away Kind = iota
	// Refused is what trying again does not mend: somebody has to change something.
	Refused
	// Compromised says that somebody else may have had a secret.
	Compromised
)

// Error is what went wrong with Vault, in a sentence for an operator.
type Error struct {
	Kind Kind
	Text string

	forbidden bool // by Vault's policy, or because the login is over
}

// Error implements error.
func (e *Error) Error() string {
	if e.Kind == Compromised {
		return "vault: SECURITY: " + e.Text
	}
	return "vault: " + e.Text
}

func away(format string, a ...any) error { return &Error{Kind: Away, Text: fmt.Sprintf(format, a...)} }
func refused(format string, a ...any) error {
	return &Error{Kind: Refused, Text: fmt.Sprintf(format, a...)}
}
func compromised(format string, a ...any) error {
	return &Error{Kind: Compromised, Text: fmt.Sprintf(format, a...)}
}

// IsAway reports whether trying again may help.
func IsAway(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Away
}

// isForbidden reports whether a new login may help.
func isForbidden(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.forbidden
}

// status returns the HTTP status that Vault answered with, or 0.
func status(err error) int {
	var response *api.ResponseError
	if errors.As(err, &response) {
		return response.StatusCode
	}
	return 0
}

// explain turns an error of the library into one of ours. doing is what was tried, needs the
// right that it takes: "read on secret/data/keyd/token".
func (c *client) explain(doing, needs string, err error) error {
	var ours *Error
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &authority):
		return refused("%s: the certificate of %s leads to none of the authorities in vault.ca: put the authority that issued it there, or find out who answers in Vault's place", doing, c.address)
	case errors.As(err, &host):
		return refused("%s: the certificate of %s is for another name: correct vault.address, or Vault's certificate", doing, c.address)
	case errors.As(err, &invalid):
		return refused("%s: the certificate of %s is not valid: %s", doing, c.address, c.quote(invalid.Error()))
	}
	var response *api.ResponseError
	if !errors.As(err, &response) {
		return away("%s: %s does not answer: %s", doing, c.address, c.quote(err.Error()))
	}
	said := c.quote(strings.Join(response.Errors, "; "))
	switch code := response.StatusCode; code {
	case http.StatusForbidden:
		return &Error{Kind: Refused, forbidden: true, Text: fmt.Sprintf("%s: permission denied: the login has expired or been revoked, or its policy does not allow %s (docs/vault.md has the policy)", doing, needs)}
	case http.StatusNotFound:
		return refused("%s: there is nothing at that path: is the secrets engine mounted there? Vault says: %s", doing, said)
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusPreconditionFailed:
		return refused("%s: Vault refuses: %s", doing, said)
	case http.StatusTooManyRequests:
		return away("%s: Vault has no time (429): a rate limit quota, or a standby that does not serve; raise the quota or name the active node", doing)
	case 472, 473:
		return away("%s: %s is a standby that does not serve (%d): name the active node, or an address that always leads to it", doing, c.address, code)
	case http.StatusServiceUnavailable:
		return away("%s: Vault is sealed or in maintenance (503): unseal it", doing)
	default:
		return away("%s: Vault fails with status %d: %s; its own log says more", doing, code, said)
	}
}

// quote prepares what others wrote for a log: short, printable, and without what this
// process has sent to Vault, which could be sent back.
func (c *client) quote(text string) string {
	for _, secret := range c.secrets {
		text = strings.ReplaceAll(text, secret, "[removed]")
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	const most = 300
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	if text == "" {
		return "nothing"
	}
	return text
}
