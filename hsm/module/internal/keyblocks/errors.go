package keyblocks

import (
	"errors"
	"fmt"
)

// Errors about the key block protection key; all of them are [ErrKBPK] for errors.Is.
var (
	ErrKBPK          = errors.New("key block protection key refused")
	ErrKBPKAlgorithm = fmt.Errorf("%w: its algorithm does not fit the version of the block (AES for D, TDES for A, B and C)", ErrKBPK)
	ErrKBPKLength    = fmt.Errorf("%w: its length is none of its algorithm's (TDES 16 or 24 bytes, AES 16, 24 or 32)", ErrKBPK)
	ErrKBPKSingleDES = fmt.Errorf("%w: single DES", ErrKBPK)
	ErrKBPKAbsent    = fmt.Errorf("%w: the token object that this version needs is not there", ErrKBPK)
)

// Errors of key blocks, in the order in which they are looked for.
var (
	ErrBlock     = errors.New("key block: its parts do not belong together")
	ErrMAC       = errors.New("key block: the MAC does not verify")
	ErrBits      = errors.New("key block: the key is no whole number of bytes")
	ErrNoKey     = errors.New("key block: the key is empty")
	ErrLength    = errors.New("key block: the key is longer than the payload")
	ErrOutput    = errors.New("key block: no room for the key")
	ErrReadOnly  = errors.New("key block: version A is read and not written")
	ErrKeyLength = errors.New("key block: a key to wrap has 1 to 4,096 bytes")
)
