package module

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"keyd/ceremony"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/softhsm"
	"keyd/hsm/module/internal/token"
)

// InitRequest is one of the two steps in which a production token gets its roster and its
// master keys ([ceremony.Init]): a definition, which is opened; then the papers with every
// officer's acceptance and share.
type InitRequest struct {
	Definition []byte                `json:"definition,omitempty"`
	Papers     *ceremony.Proceedings `json:"papers,omitempty"`
}

// InitAnswer is the opening, or the record of what was done.
type InitAnswer struct {
	Opening  *ceremony.Signed `json:"opening,omitempty"`
	Record   *ceremony.Signed `json:"record,omitempty"`
	Identity []byte           `json:"identity,omitempty"` // of the token, which has signed them: SubjectPublicKeyInfo in DER
}

// EpochPageSize is the size of the file behind [Options.EpochFD], in bytes.
const EpochPageSize = register.PageSize

// maxInit bounds a request and an answer, in bytes.
const maxInit = 1 << 20

// Initialise carries out one step, in a process of its own that has the token's PIN and no
// peer. It reads an [InitRequest] from in and writes an [InitAnswer] to out.
func Initialise(o Options, in io.Reader, out io.Writer) error {
	b, err := io.ReadAll(io.LimitReader(in, maxInit+1))
	if err != nil {
		return err
	}
	request, err := ceremony.Decode[InitRequest](b, maxInit)
	if err != nil || (request.Definition == nil) == (request.Papers == nil) {
		return Permanent{errors.New("keyd init: the request is malformed")}
	}
	tok, _, err := openToken(o, os.Getppid(), false)
	if err != nil {
		return err
	}
	if err := checkMark(tok, false); err != nil {
		return err
	}
	var answer InitAnswer
	step := func(s *token.Session) error {
		pair, err := quorum.CreateIdentity(s)
		if err != nil {
			return err
		}
		if answer.Identity, err = x509.MarshalPKIXPublicKey(pair.Public); err != nil {
			return err
		}
		if request.Papers != nil {
			record, err := quorum.Finish(s, request.Papers, time.Now)
			answer.Record = &record
			return err
		}
		opening, err := quorum.Propose(s, request.Definition, time.Now)
		answer.Opening = &opening
		return err
	}
	if err := softhsm.Store(o.Directories).Keep(func() error { return tok.Do(step) }); err != nil {
		return Permanent{fmt.Errorf("keyd init: %w", quorum.Refuse(err))}
	}
	encoded, err := ceremony.Encode(&answer)
	if err != nil {
		return err
	}
	_, err = out.Write(encoded)
	return err
}
