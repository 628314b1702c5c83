package token

/*
#include "direct.h"
*/
import "C"

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// DecryptOAEP deciphers in, one RSA-OAEP message of the modulus' size without a label,
// under a pair that decrypts (RFC 8017 §7.1.2), and returns the length of the message. out
// is locked memory of at least the modulus' size, up to 512 bytes; after an error it is
// zero. The mask uses the same hash function: SHA-256, SHA-384, SHA-512, or SHA-1, which is
// safe here and the only one that SoftHSM 2.6.1 has.
//
// A message that was not made for the key is an error of class [Refused].
func (s *Session) DecryptOAEP(p Pair, hash crypto.Hash, out, in []byte) (int, error) {
	public, ok := p.Public.(*rsa.PublicKey)
	if !ok || p.Use != PairDecrypts {
		return 0, errors.New("the key pair is not for decrypting")
	}
	mechanism, mgf := uint(pkcs11.CKM_SHA_1), uint(pkcs11.CKG_MGF1_SHA1)
	if h, ok := signedHashes[hash]; ok {
		mechanism, mgf = h.mechanism, h.mgf
	} else if hash != crypto.SHA1 {
		return 0, fmt.Errorf("OAEP: the hash function %v is not used", hash)
	}
	if len(out) < public.Size() {
		return 0, fmt.Errorf("OAEP: room for %d bytes where the modulus has %d", len(out), public.Size())
	}
	if len(in) != public.Size() || new(big.Int).SetBytes(in).Cmp(public.N) >= 0 {
		return 0, failed("C_Decrypt", pkcs11.CKR_ENCRYPTED_DATA_INVALID)
	}
	n := C.keyd_ulong(len(out))
	rv := C.keyd_decrypt_oaep(s.token.lib.direct, C.keyd_ulong(s.handle), pkcs11.CKM_RSA_PKCS_OAEP,
		C.keyd_ulong(mechanism), C.keyd_ulong(mgf), C.keyd_ulong(p.Private),
		unsafe.Pointer(&in[0]), C.keyd_ulong(len(in)), unsafe.Pointer(&out[0]), &n)
	if rv == pkcs11.CKR_GENERAL_ERROR {
		// What SoftHSM says of wrong padding: a peer's message must not end the process.
		rv = pkcs11.CKR_ENCRYPTED_DATA_INVALID
	}
	if err := call("C_Decrypt", uint(rv)); err != nil {
		clear(out)
		return 0, err
	}
	return int(n), nil
}
