package keyagreement

import "errors"

// Errors of messages. They hold nothing of what was sent.
var (
	ErrTooLarge    = errors.New("key agreement: the message is larger than 64 KiB")
	ErrEncoding    = errors.New("key agreement: the message is not in its one encoding")
	ErrVersion     = errors.New("key agreement: the message is of an unknown version")
	ErrCurve       = errors.New("key agreement: the curve is none of P-256, P-384 and P-521")
	ErrPoint       = errors.New("key agreement: the ephemeral key is no point of the curve")
	ErrCertificate = errors.New("key agreement: a certificate cannot be read, or has a key that signs nothing here")
	ErrWeaker      = errors.New("key agreement: the key of a certificate is weaker than the curve")
	ErrSignature   = errors.New("key agreement: the signature is not by the certificate's key: the message was altered")
	ErrOther       = errors.New("key agreement: the answer is to another request")
	ErrBlock       = errors.New("key agreement: there are 1 to 16 key blocks of version D")
	ErrUsed        = errors.New("key agreement: this run is over: begin another")
	ErrSign        = errors.New("key agreement: the signature was not made with the key of the certificate")
)
