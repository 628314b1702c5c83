package keyagreement

import (
	"crypto"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/binary"
)

// derive writes the key block protection key to out, which has the curve's KeySize. What it
// leaves on the heap is cleared as far as it can be reached from here: callers with other
// secrets run it inside runtime/secret.Do.
func derive(own *ecdh.PrivateKey, other *ecdh.PublicKey, curve Curve, terminal, host, request []byte, answering *party, out []byte) error {
	z, err := own.ECDH(other)
	if err != nil { // the point at infinity, which NIST curves cannot give here
		return ErrPoint
	}
	defer clear(z)
	p := curves[curve]
	block := make([]byte, 0, 4+len(z)+256)
	defer func() { clear(block[:cap(block)]) }()
	block = binary.BigEndian.AppendUint32(block, 1)
	block = append(block, z...)
	u, v := sha256.Sum256(terminal), sha256.Sum256(host)
	supplement := digestOf(crypto.SHA256, request, answering.point.Bytes(), answering.random[:])
	for _, field := range [][]byte{[]byte(p.algorithm), u[:], v[:], supplement} {
		block = binary.BigEndian.AppendUint32(block, uint32(len(field)))
		block = append(block, field...)
	}
	key := digestOf(p.hash, block)
	defer clear(key)
	copy(out[:p.size], key)
	return nil
}
