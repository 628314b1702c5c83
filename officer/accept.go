package officer

import (
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyd/ceremony"
)

// Request is what a new token asks of its officers: to accept its identity and the roster,
// and to seal their shares of its master keys. It travels as a file. Nothing vouches for
// its identity but that the officers compare the fingerprints with each other.
type Request struct {
	Identity   []byte          `json:"identity"` // SubjectPublicKeyInfo in DER
	Opening    ceremony.Signed `json:"opening"`
	Definition []byte          `json:"definition"` // encoded
}

// Acceptance is an officer's answer, a file too. All in it is public: a share is sealed to
// the token.
type Acceptance struct {
	Submission *ceremony.Submission `json:"submission,omitempty"` // of a holder of a share
	Approval   ceremony.Signed      `json:"approval"`
}

const maxRequest = 4 * ceremony.MaxDocument

// Encode returns the file of a request.
func (r *Request) Encode() ([]byte, error) {
	b, err := ceremony.Encode(r)
	return append(b, '\n'), err
}

// Accepting is a request that was checked, as far as it can be.
type Accepting struct {
	*ceremony.Checked
	Identity Fingerprint
	Roster   Fingerprint

	key     *ecdsa.PublicKey
	request *Request
}

// ParseRequest reads a request and checks that its identity has signed it.
func ParseRequest(text []byte) (*Accepting, error) {
	r, err := ceremony.Decode[Request](trimNewline(text), maxRequest)
	if err != nil {
		return nil, errors.New("this is no request as keyd init --request writes it")
	}
	a := &Accepting{request: r}
	if a.key, err = ceremony.ParseKey(r.Identity); err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	d, err := ceremony.Decode[ceremony.Definition](r.Definition, ceremony.MaxDocument)
	if err != nil || d.Kind != ceremony.Init || d.Validate() != nil {
		return nil, errors.New("the request holds no definition of kind init")
	}
	opening, _, err := ceremony.ParseOpening(a.key, r.Opening)
	if err != nil {
		return nil, fmt.Errorf("the request was not signed by the identity in it: %w", err)
	}
	papers := ceremony.Proceedings{Opening: r.Opening, Definition: r.Definition}
	if a.Checked, err = papers.Check(a.key, d.Roster, opening.Opened); err != nil {
		return nil, fmt.Errorf("the request contradicts itself: %w", err)
	}
	if a.Identity, err = ParseFingerprint(opening.Identity); err != nil {
		return nil, err
	}
	a.Roster, err = ParseFingerprint(opening.Roster)
	return a, err
}

// Compare compares the request with the officer's own copy of the definition.
func (a *Accepting) Compare(own *ceremony.Definition) error {
	digest, err := own.Digest()
	if err != nil {
		return err
	}
	if digest != a.Opening.Definition {
		return fmt.Errorf("the request is for another definition than yours\n  request %s\n  yours   %s\naccept nothing: compare your files with the other officers",
			ceremony.FormatFingerprint(a.Opening.Definition), ceremony.FormatFingerprint(digest))
	}
	return nil
}

// Expired reports whether it is too late.
func (a *Accepting) Expired(now time.Time) error {
	if now.Unix() >= a.Opening.Expires {
		return fmt.Errorf("the request has expired, at %s: make another with keyd init --definition", At(a.Opening.Expires))
	}
	return nil
}

// Share returns the number of an officer's share of the master keys, 0 if the officer holds
// none.
func (a *Accepting) Share(name string) int {
	return slices.Index(a.Definition.MasterKeys.Holders, name) + 1
}

// Whose returns the officer of the roster whose key this is, or an error that says whose
// keys it has.
func Whose(r *ceremony.Roster, signer crypto.Signer) (string, error) {
	for i := range r.Officers {
		if checkSigner(&r.Officers[i], signer) == nil {
			return r.Officers[i].Name, nil
		}
	}
	digest, err := ceremony.KeyFingerprint(signer.Public())
	if err != nil {
		return "", err
	}
	return "", fmt.Errorf("the roster has no officer with this key\n  %s\nhand in its public key, and have the definition made anew with it", ceremony.FormatFingerprint(digest))
}

// Accept signs the acceptance, and the share if the officer holds one (otherwise nil). The
// officer has compared both fingerprints before.
func (a *Accepting) Accept(own *ceremony.Definition, name string, signer crypto.Signer, share *Secret, now time.Time) (*Acceptance, error) {
	if err := errors.Join(a.Compare(own), a.Expired(now)); err != nil {
		return nil, err
	}
	o := a.Definition.Roster.Officer(name)
	if o == nil {
		return nil, fmt.Errorf("the roster has no officer %q; it has %s", name, strings.Join(Names(a.Definition.Roster), ", "))
	}
	if err := checkSigner(o, signer); err != nil {
		return nil, err
	}
	index := a.Share(name)
	if (index != 0) != (share != nil) {
		return nil, errors.New("a share is for the officers whom masters.holders names, and they need one")
	}
	statement := func(action ceremony.Action) *ceremony.Statement {
		return &ceremony.Statement{
			Action: action, Officer: name, Definition: a.Opening.Definition, Identity: a.Opening.Identity,
			Roster: a.Opening.Roster, Opening: a.Digest, Time: now.Unix(),
		}
	}
	accepted := new(Acceptance)
	if share != nil {
		sealed, s, err := seal(a.Checked, statement(ceremony.Submit), index, share)
		if err != nil {
			return nil, err
		}
		signed, err := s.Sign(signer)
		if err != nil {
			return nil, err
		}
		accepted.Submission = &ceremony.Submission{Statement: signed, Sealed: sealed}
	}
	var err error
	accepted.Approval, err = statement(ceremony.Approve).Sign(signer)
	return accepted, err
}

// Encode returns the file of an acceptance.
func (a *Acceptance) Encode() ([]byte, error) {
	b, err := ceremony.Encode(a)
	return append(b, '\n'), err
}

// ParseAcceptance reads the file of an acceptance. [Accepting.Gather] checks it.
func ParseAcceptance(text []byte) (*Acceptance, error) {
	a, err := ceremony.Decode[Acceptance](trimNewline(text), ceremony.MaxDocument)
	if err != nil {
		return nil, errors.New("this is no acceptance as keyd officer accept writes it")
	}
	return a, nil
}

// Gather puts a request and its acceptances together, and says whose are missing.
func (a *Accepting) Gather(accepted []*Acceptance, now time.Time) (*ceremony.Proceedings, error) {
	papers := &ceremony.Proceedings{Opening: a.request.Opening, Definition: a.request.Definition}
	for _, one := range accepted {
		if one.Submission != nil {
			papers.Submissions = append(papers.Submissions, *one.Submission)
		}
		papers.Approvals = append(papers.Approvals, one.Approval)
	}
	if err := a.Expired(now); err != nil {
		return nil, err
	}
	c, err := papers.Check(a.key, a.Definition.Roster, now.Unix())
	if err != nil {
		return nil, fmt.Errorf("the acceptances do not fit the request: %w", err)
	}
	has := func(list []*ceremony.Statement, name string) bool {
		return slices.ContainsFunc(list, func(s *ceremony.Statement) bool { return s.Officer == name })
	}
	var missing []string
	for _, name := range Names(a.Definition.Roster) {
		if !has(c.Approvals, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("not accepted by %s: every officer of the first roster has to (keyd officer accept)", strings.Join(missing, ", "))
	}
	if n := c.Missing().Components; n > 0 {
		return nil, fmt.Errorf("%s of the master keys", count(n, "share is missing", "shares are missing"))
	}
	return papers, nil
}
