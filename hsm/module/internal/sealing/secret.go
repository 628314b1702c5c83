package sealing

import (
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// Secret returns 32 bytes that follow from the fingerprint key and a purpose: the same in
// every module of the token, in every generation of master keys, and unknown to everybody
// else. They are two CMACs, over what is no fingerprint's message.
func (m *Masters) Secret(session *token.Session, purpose string) (secret [2 * hsm.MACSize]byte, err error) {
	for i := range 2 {
		message := append([]byte("keyd secret\x00"), byte(i))
		if err := code(session, m.fingerprints, secret[i*hsm.MACSize:(i+1)*hsm.MACSize], append(message, purpose...)); err != nil {
			return [2 * hsm.MACSize]byte{}, err
		}
	}
	return secret, nil
}
