package token

/*
#include "direct.h"
*/
import "C"

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// Signer returns a signer whose private key stays in the token. It signs digests of
// SHA-256, SHA-384 and SHA-512: with ECDSA (the answer is an ASN.1 sequence, RFC 3279
// §2.2.3), RSA PKCS #1 v1.5, or PSS where the options are *rsa.PSSOptions. The random
// source is not used: the token has its own.
//
// It works as long as the caller has the session, and like that for one goroutine.
func (s *Session) Signer(p Pair) crypto.Signer { return signer{s, p} }

type signer struct {
	session *Session
	pair    Pair
}

func (k signer) Public() crypto.PublicKey { return k.pair.Public }

func (k signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.pair.Use != PairSigns {
		return nil, errors.New("the key pair is not for signing")
	}
	if opts == nil {
		return nil, errors.New("sign: no hash function is named")
	}
	hash, ok := signedHashes[opts.HashFunc()]
	if !ok {
		return nil, fmt.Errorf("sign: the hash function must be SHA-256, SHA-384 or SHA-512, not %v", opts.HashFunc())
	}
	if len(digest) != opts.HashFunc().Size() {
		return nil, fmt.Errorf("sign: a digest of %d bytes is not one of %v", len(digest), opts.HashFunc())
	}
	switch public := k.pair.Public.(type) {
	case *ecdsa.PublicKey:
		return k.session.signECDSA(k.pair.Private, public, digest)
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return k.session.signPSS(k.pair.Private, public, digest, hash, pss)
		}
		return k.session.signPKCS1(k.pair.Private, public, digest, hash)
	}
	return nil, errors.New("sign: the key pair has no public key")
}

// signedHash is what PKCS#11 and DigestInfo call a hash function.
type signedHash struct {
	size           int
	mechanism, mgf uint
	oid            asn1.ObjectIdentifier // RFC 8017 appendix B.1
}

var signedHashes = map[crypto.Hash]signedHash{
	crypto.SHA256: {32, pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	crypto.SHA384: {48, pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	crypto.SHA512: {64, pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
}

// signECDSA signs a digest. Of one longer than the order the leftmost bits count (FIPS
// 186-5 §6.4.1); not every token cuts it itself.
func (s *Session) signECDSA(private Object, public *ecdsa.PublicKey, digest []byte) ([]byte, error) {
	size := fieldSize(public.Curve)
	if len(digest) > size {
		digest = digest[:size] // the order of P-521, which has no whole bytes, is longer than any digest
	}
	rs, err := s.sign(pkcs11.CKM_ECDSA, nil, private, digest, 2*size)
	if err != nil {
		return nil, err
	}
	r, ss := new(big.Int).SetBytes(rs[:size]), new(big.Int).SetBytes(rs[size:])
	order := public.Curve.Params().N
	for _, n := range []*big.Int{r, ss} {
		if n.Sign() == 0 || n.Cmp(order) >= 0 {
			return nil, errors.New("the token made a signature that is none")
		}
	}
	return asn1.Marshal(struct{ R, S *big.Int }{r, ss})
}

// signPKCS1 signs a digest's DigestInfo (RFC 8017 §9.2); the token pads it.
func (s *Session) signPKCS1(private Object, public *rsa.PublicKey, digest []byte, hash signedHash) ([]byte, error) {
	info, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: hash.oid, Parameters: asn1.NullRawValue}, digest})
	if err != nil {
		return nil, err
	}
	return s.sign(pkcs11.CKM_RSA_PKCS, nil, private, info, public.Size())
}

// signPSS signs a digest (RFC 8017 §9.1); the mask uses the same hash function.
func (s *Session) signPSS(private Object, public *rsa.PublicKey, digest []byte, hash signedHash, opts *rsa.PSSOptions) ([]byte, error) {
	most := (public.N.BitLen()-1+7)/8 - hash.size - 2
	salt := opts.SaltLength
	switch salt {
	case rsa.PSSSaltLengthAuto:
		salt = most
	case rsa.PSSSaltLengthEqualsHash:
		salt = hash.size
	}
	if salt < 0 || salt > most {
		return nil, fmt.Errorf("sign: a PSS salt of %d bytes does not fit", salt)
	}
	var parameter [24]byte // CK_RSA_PKCS_PSS_PARAMS: hash function, mask generation, salt length
	binary.NativeEndian.PutUint64(parameter[:], uint64(hash.mechanism))
	binary.NativeEndian.PutUint64(parameter[8:], uint64(hash.mgf))
	binary.NativeEndian.PutUint64(parameter[16:], uint64(salt))
	return s.sign(pkcs11.CKM_RSA_PKCS_PSS, parameter[:], private, digest, public.Size())
}

// sign makes a signature of exactly size bytes.
func (s *Session) sign(mechanism uint, parameter []byte, private Object, in []byte, size int) ([]byte, error) {
	s.token.tallies.sign.add(0)
	out := make([]byte, size)
	n := C.keyd_ulong(size)
	rv := C.keyd_sign_digest(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism),
		unsafe.Pointer(unsafe.SliceData(parameter)), C.keyd_ulong(len(parameter)),
		C.keyd_ulong(private), unsafe.Pointer(&in[0]), C.keyd_ulong(len(in)), unsafe.Pointer(&out[0]), &n)
	if err := call("C_Sign", uint(rv)); err != nil {
		return nil, err
	}
	if int(n) != size {
		return nil, fmt.Errorf("the token made a signature of %d bytes where %d were expected", int(n), size)
	}
	return out, nil
}
