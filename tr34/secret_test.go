//go:build goexperiment.runtimesecret

package tr34

import (
	"runtime/secret"
	"testing"
)

// A token is prepared where everything is erased, and signed outside.
func TestPreparedInsideSecret(t *testing.T) {
	w := theWorld()
	host := w.sender(Profile{})
	host.Sign = nil
	var prepared *PreparedToken
	var err error
	secret.Do(func() {
		prepared, err = host.PrepareKeyToken(entropy, w.to(), aesKey, Freshness{Random: []byte("12345678")}, scratch())
	})
	check(t, err)
	token, err := prepared.Finish(w.sender(Profile{}))
	check(t, err)
	refuses(t, w, "prepared inside secret", token, w.twoPass(), nil)
}
