package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"
)

// login sees to it that the client has a token that is good for a while: the one of the
// process before, renewed when half of its time is over, or one of a new login. A token that
// cannot be renewed now but has time left is used: the error is returned as problem.
func (c *client) login(ctx context.Context, s *session) (problem, err error) {
	if c.TokenFile != "" {
		return c.loginByFile(ctx, s)
	}
	now := time.Now()
	if s.Token != "" && s.holds(now) {
		c.hide(s.SecretID)
		c.use(s.Token)
		if !s.due(now) {
			return nil, nil
		}
		err := c.renew(ctx, s)
		if err == nil {
			return nil, nil
		}
		if IsAway(err) {
			return err, nil
		}
		// Revoked, or at the end of its longest life: a new login.
	}
	return nil, c.loginByRole(ctx, s)
}

// loginByFile uses the token of a file, which somebody may have replaced.
func (c *client) loginByFile(ctx context.Context, s *session) (problem, err error) {
	const what = "vault.token_file"
	b, err := readPrivate(what, c.TokenFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, refused("%s: there is no file %s", what, c.TokenFile)
		}
		return nil, err
	}
	defer clear(b)
	token, err := oneLine(what, c.TokenFile, b)
	if err != nil {
		return nil, err
	}
	c.use(token)
	if mark := mark(token); s.File != mark || !s.holds(time.Now()) {
		*s = session{}
		if err := c.lookUp(ctx, s); err != nil {
			return nil, err
		}
		s.File = mark
	}
	if s.due(time.Now()) {
		if err := c.renew(ctx, s); err != nil {
			return err, nil
		}
	}
	if !s.Expires.IsZero() && s.Expires.Sub(s.Granted) < time.Duration(s.Whole)*time.Second/3 {
		problem = refused("the token in %s ends at %s and cannot be renewed any further: put a new one there", c.TokenFile, s.Expires.UTC().Format(time.DateTime))
	}
	return problem, nil
}

// lookUp learns what a token is.
func (c *client) lookUp(ctx context.Context, s *session) error {
	const doing = "look the token up"
	answer, err := c.api.Logical().ReadWithContext(ctx, "auth/token/lookup-self")
	if err != nil {
		if status(err) == http.StatusForbidden {
			return refused("%s: Vault does not know the token in %s: it has expired or been revoked; put a new one there", doing, c.TokenFile)
		}
		return c.explain(doing, "read on auth/token/lookup-self", err)
	}
	if answer == nil {
		return away("%s: there is no answer", doing)
	}
	policies, err := answer.TokenPolicies()
	if err != nil {
		return refused("%s: the answer has no policies", doing)
	}
	if slices.Contains(policies, "root") {
		return refused("the token in %s is a root token, which may do everything: make one with the policy of docs/vault.md, and revoke this one", c.TokenFile)
	}
	left, err := answer.TokenTTL()
	if err != nil {
		return refused("%s: the answer has no ttl", doing)
	}
	renewable, err := answer.TokenIsRenewable()
	if err != nil {
		return refused("%s: the answer does not say whether it can be renewed", doing)
	}
	if whole, ok := answer.Data["creation_ttl"].(json.Number); ok {
		if n, err := whole.Int64(); err == nil {
			s.Whole = int(min(n, 1<<31-1))
		}
	}
	s.grant(int(left/time.Second), renewable, time.Now())
	return nil
}

// renew prolongs the token.
func (c *client) renew(ctx context.Context, s *session) error {
	now := time.Now()
	answer, err := c.write(ctx, "renew the login", "auth/token/renew-self", nil)
	if err != nil {
		return err
	}
	if answer == nil || answer.Auth == nil {
		return away("renew the login: there is no answer")
	}
	s.grant(answer.Auth.LeaseDuration, answer.Auth.Renewable, now)
	return nil
}

// loginByRole logs in with role and secret-id: the one of the process before, or the one
// that lies in the file, which may be new.
func (c *client) loginByRole(ctx context.Context, s *session) error {
	c.api.ClearToken()
	if s.SecretID != "" {
		err := c.present(ctx, s, s.SecretID)
		if err == nil || IsAway(err) {
			return err
		}
		fresh, fileErr := c.secretID(ctx)
		if fileErr != nil {
			return refused("%s; and no new one is there: %v", message(err), message(fileErr))
		}
		s.SecretID = ""
		return c.presentFresh(ctx, s, fresh)
	}
	fresh, err := c.secretID(ctx)
	if err != nil {
		return err
	}
	return c.presentFresh(ctx, s, fresh)
}

func (c *client) presentFresh(ctx context.Context, s *session, secretID string) error {
	if c.AppRole.Wrapped {
		s.SecretID = secretID // it is nowhere else
	}
	return c.present(ctx, s, secretID)
}

func message(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Text
	}
	return err.Error()
}

// present logs in with a secret-id.
func (c *client) present(ctx context.Context, s *session, secretID string) error {
	c.hide(secretID)
	path := "auth/" + c.AppRole.Mount + "/login"
	now := time.Now()
	answer, err := c.api.Logical().WriteWithContext(ctx, path, map[string]any{"role_id": c.AppRole.RoleID, "secret_id": secretID})
	if code := status(err); code == http.StatusBadRequest || code == http.StatusForbidden {
		return refused("log in as %s: Vault refuses role_id and secret-id: the secret-id has expired or has no uses left, or the role is another one (%s); deliver a new secret-id", c.AppRole.Role, c.said(err))
	}
	if err != nil {
		return c.explain("log in as "+c.AppRole.Role, "update on "+path, err)
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return away("log in as %s: there is no token in the answer", c.AppRole.Role)
	}
	if slices.Contains(answer.Auth.Policies, "root") {
		return refused("log in as %s: the role gives the policy root, which may do everything: give it the policy of docs/vault.md", c.AppRole.Role)
	}
	s.forget()
	s.Token = answer.Auth.ClientToken
	s.grant(answer.Auth.LeaseDuration, answer.Auth.Renewable, now)
	c.use(s.Token)
	return nil
}

// said quotes what Vault said in an error.
func (c *client) said(err error) string {
	var response *api.ResponseError
	if errors.As(err, &response) {
		return c.quote(fmt.Sprint(response.Errors))
	}
	return c.quote(err.Error())
}

// revoke ends a login that nothing needs any more. It is good without it, for its time.
func (c *client) revoke(ctx context.Context, s *session) error {
	_, err := c.write(ctx, "end the login", "auth/token/revoke-self", nil)
	*s = session{}
	return err
}

// mark tells a token from others.
func mark(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// tokenMark returns the mark of a file's token, or nothing if it cannot be read.
func tokenMark(path string) string {
	const what = "vault.token_file"
	b, err := readPrivate(what, path)
	if err != nil {
		return ""
	}
	defer clear(b)
	token, err := oneLine(what, path, b)
	if err != nil {
		return ""
	}
	return mark(token)
}
