package tr34

import "errors"

// Errors of the encoding of a token, in any reader.
var (
	ErrTooLarge   = errors.New("tr34: token is larger than 64 KiB")
	ErrIndefinite = errors.New("tr34: token has indefinite lengths (BER): have the other side write DER")
	ErrEncoding   = errors.New("tr34: token is not well-formed DER")
	ErrStructure  = errors.New("tr34: token is not of the expected kind")
	ErrVersion    = errors.New("tr34: unknown version of a structure in the token")
	ErrAlgorithm  = errors.New("tr34: algorithm or parameters are not those of the profile")
	ErrAttribute  = errors.New("tr34: a signed attribute is missing, doubled or malformed")
	ErrRandomSize = errors.New("tr34: random number is not of 8 to 16 bytes")
	ErrCredential = errors.New("tr34: token has not exactly one certificate of a host or device")
)

// Errors of what a token says.
var (
	ErrSigner          = errors.New("tr34: token is signed by another than the bound host")
	ErrAltered         = errors.New("tr34: signature or digest does not fit the token: it was altered")
	ErrRandom          = errors.New("tr34: token does not repeat the random number: it is replayed or for another request")
	ErrStale           = errors.New("tr34: time stamp is not after the last one")
	ErrRecipient       = errors.New("tr34: token is for another device")
	ErrDecrypt         = errors.New("tr34: content does not decrypt to a key block")
	ErrHostMismatch    = errors.New("tr34: host inside the envelope is not the signer")
	ErrHeaderMismatch  = errors.New("tr34: header inside the envelope is not the signed one")
	ErrHeader          = errors.New("tr34: header is no header of X9.143")
	ErrKeySize         = errors.New("tr34: key has no size of the header's algorithm, or the algorithm is neither AES nor TDES")
	ErrWeakerWrapping  = errors.New("tr34: key would travel under a weaker one: take a device with a longer RSA key or a stronger content cipher")
	ErrContentKeySize  = errors.New("tr34: content key has not the size of its cipher")
	ErrDeviceNotBound  = errors.New("tr34: there is no bound host: open a credential first")
	ErrFreshness       = errors.New("tr34: give either a random number, or a time and (to write) a CRL")
	ErrScratch         = errors.New("tr34: scratch is smaller than ScratchSize")
	ErrOut             = errors.New("tr34: buffer is smaller than the key")
	ErrProfile         = errors.New("tr34: profile has an unknown hash or cipher")
	ErrSign            = errors.New("tr34: signature was not made with the key of the host's certificate")
	ErrContentTooLarge = errors.New("tr34: key block does not fit in scratch")
)

// Errors of certificates and CRLs, from [Trust].
var (
	ErrTrust       = errors.New("tr34: trust needs a root, CAs under it, and none that is for hosts and devices")
	ErrForeign     = errors.New("tr34: certificate is of no CA that is trusted")
	ErrRole        = errors.New("tr34: certificate is for the other role")
	ErrUsage       = errors.New("tr34: key usage of the certificate does not fit the role")
	ErrNotYet      = errors.New("tr34: certificate or its CA's is not yet valid")
	ErrExpired     = errors.New("tr34: certificate or its CA's has expired")
	ErrPath        = errors.New("tr34: certification path is not valid")
	ErrKey         = errors.New("tr34: certificate has no RSA key of 2,048 to 8,192 bits")
	ErrRevoked     = errors.New("tr34: certificate or its CA's is revoked")
	ErrNoCRL       = errors.New("tr34: there is no CRL of the certificate's CA")
	ErrCRL         = errors.New("tr34: CRL is malformed, altered, or of a kind that is not read")
	ErrCRLNotYet   = errors.New("tr34: CRL is not yet valid")
	ErrCRLExpired  = errors.New("tr34: CRL has expired")
	ErrCertificate = errors.New("tr34: certificate is malformed")
)
