// Package software derives DUKPT keys in memory: ANSI X9.24-1:2009 Annex A (TDES) and ANSI X9.24-3:2017 (AES).
//
// It is for the two places where clear keys may be: the terminal side, and the module behind the hardware
// boundary for what its token cannot do. No other part of the host may import it. Each function says which
// side calls it.
//
// Rules. Single DES is refused. Keys come from and go to memory of the caller, who may have locked it. The TDES
// functions of the host side allocate nothing: expanded keys lie on the stack and are cleared, single words
// may stay in dead stack slots. The AES functions use crypto/aes, which leaves key schedules on the heap. A
// module therefore runs all of them inside runtime/secret.Do, which erases both. Errors never contain key
// material. Nothing here is constant in time towards somebody who shares the processor's cache: DES looks
// tables up.
//
// Units. Keys, blocks and KSNs are byte slices or arrays in the order in which the standards print them;
// TDES keys carry parity bits that are ignored and, in derived keys, not adjusted.
package software

import "errors"

// Errors of the derivations. No result is written where one is returned.
var (
	ErrKeySize    = errors.New("dukpt/software: key has the wrong length")
	ErrOutputSize = errors.New("dukpt/software: output has the wrong length")
	ErrScheme     = errors.New("dukpt/software: KSN or path is of the other DUKPT scheme")
	ErrVariant    = errors.New("dukpt/software: no such TDES key variant")
)
