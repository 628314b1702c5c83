package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/vault/api"
)

// Used is what the file of a wrapped secret-id is called once keyd has begun to unwrap it.
const Used = ".used"

const whatSecretID = "vault.approle.secret_id_file"

// wrapping is a response-wrapping token and what is known of it.
type wrapping struct {
	token   string
	expires time.Time // zero if the file does not say
}

// secretID reads the secret-id, and unwraps it where it is wrapped: once. A wrapped one that
// cannot be unwrapped any more was, if its time is not over, unwrapped by somebody else.
func (c *client) secretID(ctx context.Context) (string, error) {
	path := c.AppRole.SecretIDFile
	b, err := readPrivate(whatSecretID, path)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Stat(path + Used); err == nil && c.AppRole.Wrapped {
			return "", refused("%s: there is no file %s; keyd used the last one up (%s, of %s): deliver a new wrapped secret-id", whatSecretID, path, path+Used, info.ModTime().UTC().Format(time.DateTime))
		}
		return "", refused("%s: there is no file %s: deliver a secret-id", whatSecretID, path)
	}
	if err != nil {
		return "", err
	}
	defer clear(b)
	if !c.AppRole.Wrapped {
		return oneLine(whatSecretID, path, b)
	}
	w, err := parseWrapping(path, b)
	if err != nil {
		return "", err
	}
	c.hide(w.token)
	if err := c.inspect(ctx, w); err != nil {
		return "", err
	}
	// From here on it is known that keyd itself used it, whatever happens to the power.
	if err := rename(path, path+Used); err != nil {
		return "", refused("%s: %v", whatSecretID, err)
	}
	answer, err := c.api.Logical().UnwrapWithContext(ctx, w.token)
	switch {
	case invalid(err):
		return "", compromised("the wrapped secret-id was unwrapped by somebody else, between two questions of keyd's: %s", revokeIt)
	case err != nil:
		return "", refused("unwrap the secret-id: no answer, and with it the secret-id may be lost (%s): deliver a new one", message(c.explain("unwrap the secret-id", "", err)))
	}
	secretID, err := text(answer, "secret_id")
	if err != nil {
		return "", refused("unwrap the secret-id: %v: wrap the answer of auth/%s/role/%s/secret-id", err, c.AppRole.Mount, c.AppRole.Role)
	}
	c.hide(secretID)
	return secretID, nil
}

const revokeIt = "treat it as stolen: destroy the role's secret-ids, look in Vault's audit log for who unwrapped it and who has logged in since, then deliver a new one"

// inspect asks what the wrapping token wraps, without using it up.
func (c *client) inspect(ctx context.Context, w wrapping) error {
	const doing = "look the wrapping token up"
	answer, err := c.api.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": w.token})
	switch {
	case invalid(err) && !w.expires.IsZero() && time.Now().After(w.expires):
		return refused("the wrapped secret-id expired at %s: deliver a new one, and start keyd sooner or wrap it for longer", w.expires.UTC().Format(time.DateTime))
	case invalid(err) && !w.expires.IsZero():
		return compromised("the wrapped secret-id was unwrapped by somebody else: its time is not over until %s, and Vault does not have it any more: %s", w.expires.UTC().Format(time.DateTime), revokeIt)
	case invalid(err):
		return compromised("the wrapped secret-id cannot be unwrapped any more: either its time is over, or somebody else unwrapped it. Unless you know the former: %s (a file in the form of -format=json lets keyd tell the two apart)", revokeIt)
	case err != nil:
		return c.explain(doing, "update on sys/wrapping/lookup", err)
	}
	want := "auth/" + c.AppRole.Mount + "/role/" + c.AppRole.Role + "/secret-id"
	if made, err := text(answer, "creation_path"); err != nil || made != want {
		return compromised("what is wrapped was not made by %s but by %s: it is not what you sent, or not for this role: %s", want, c.quote(made), revokeIt)
	}
	return nil
}

// invalid reports whether Vault says that a wrapping token does not exist. It answers with
// 400, and with 403 where the token has to authorise the request.
func invalid(err error) bool {
	return status(err) == http.StatusBadRequest || status(err) == http.StatusForbidden
}

// parseWrapping reads a token on one line, or what Vault's command line puts out as JSON.
func parseWrapping(path string, b []byte) (w wrapping, err error) {
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		w.token, err = oneLine(whatSecretID, path, b)
		return w, err
	}
	var file struct {
		WrapInfo *api.SecretWrapInfo `json:"wrap_info"`
	}
	if json.Unmarshal(b, &file) != nil || file.WrapInfo == nil || file.WrapInfo.Token == "" {
		return wrapping{}, refused("%s: %s has no wrap_info.token: write it with vault write -wrap-ttl=… -format=json", whatSecretID, path)
	}
	if w.token, err = oneLine(whatSecretID, path, []byte(file.WrapInfo.Token)); err != nil {
		return wrapping{}, err
	}
	if i := file.WrapInfo; !i.CreationTime.IsZero() && i.TTL > 0 && i.TTL < 1<<31 {
		w.expires = i.CreationTime.Add(time.Duration(i.TTL) * time.Second)
	}
	return w, nil
}

// rename renames a file within its directory, durably.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(to))
}
