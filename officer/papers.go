package officer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
)

// Papers are a ceremony whose papers were checked. What is in Checked and Record is
// signed; the rest says whose word it is.
type Papers struct {
	*ceremony.Checked

	// State is the service's word, but for COMPLETED with a Record, which proves it.
	State keydv1.Ceremony_State

	// CheckValue is that of the whole key, where it is known; Vouched says who says so.
	CheckValue string
	Vouched    string

	// Unchecked says why statements of a ceremony that is over cannot be checked any more.
	// Submissions and Approvals are empty then.
	Unchecked string

	Record   *ceremony.Record // of a completed ceremony
	KeyBlock string           // its digest is in Record

	// Message is the answer for scripts: all but State and Node is what was checked, or the
	// checked check value.
	Message *keydv1.Ceremony

	record ceremony.Signed
}

// check checks the papers of a ceremony as a service has handed them over.
func (c *Client) check(m *keydv1.Ceremony, id string) (*Papers, error) {
	opening, digest, err := c.parseOpening(m, id)
	if err != nil {
		return nil, err
	}
	p := &Papers{State: m.State, Message: m}
	if m.Record != nil {
		err = p.completed(c, m, digest)
	} else {
		err = p.underWay(c, m, opening, digest)
	}
	if err != nil {
		return nil, err
	}
	if err := p.checkValues(m.CheckValue); err != nil {
		return nil, err
	}
	p.settle()
	return p, nil
}

// settle puts what is signed in the place of what the service says of it.
func (p *Papers) settle() {
	m := proto.CloneOf(p.Message)
	m.Kind, m.Subject, m.State = string(p.Definition.Kind), p.Definition.Subject().String(), p.State
	m.CheckValue, m.KeyBlock = p.CheckValue, p.KeyBlock
	m.OpenedAt, m.ExpiresAt = timestamppb.New(time.Unix(p.Opening.Opened, 0)), timestamppb.New(time.Unix(p.Opening.Expires, 0))
	if p.Unchecked == "" {
		missing := p.Missing()
		m.ComponentsMissing, m.ApprovalsMissing = int32(missing.Components), int32(missing.Approvals) //nolint:gosec // as many as there are officers
	}
	p.Message = m
}

// parseOpening checks the opening of a ceremony.
func (c *Client) parseOpening(m *keydv1.Ceremony, id string) (*ceremony.Opening, string, error) {
	if m.GetCeremonyId() != id || !ceremony.ValidID(id) {
		return nil, "", unbelieved("asked for ceremony %.40q, it answers with %.40q", id, m.GetCeremonyId())
	}
	opening, digest, err := ceremony.ParseOpening(c.Module.Key, fromWire(m.Opening))
	if err != nil && m.Node != c.Module.Node && m.Node != "" {
		return nil, "", fmt.Errorf("%w %.64s: send the papers there (--server)", ErrElsewhere, printable(m.Node))
	}
	if err != nil {
		return nil, "", unbelieved("the opening of the ceremony is not by the module that you confirmed, %s (%w)", c.Module.Identity, err)
	}
	if opening.ID != id {
		return nil, "", unbelieved("the opening is of another ceremony, %s", opening.ID)
	}
	if ceremony.Digest(m.Definition) != opening.Definition {
		return nil, "", unbelieved("the module opened this ceremony for another definition than the one that it shows")
	}
	return opening, digest, nil
}

// openingOnly returns papers of which the statements were not checked.
func openingOnly(m *keydv1.Ceremony, opening *ceremony.Opening, digest, why string) (*Papers, error) {
	d, err := ceremony.Decode[ceremony.Definition](m.Definition, ceremony.MaxDocument)
	if err != nil || d.Validate() != nil {
		return nil, unbelieved("its definition is malformed")
	}
	return &Papers{
		Checked: &ceremony.Checked{Opening: opening, Digest: digest, Definition: d},
		State:   m.State, Message: m, Unchecked: why,
	}, nil
}

// completed checks a record, which has all papers in it.
func (p *Papers) completed(c *Client, m *keydv1.Ceremony, openingDigest string) error {
	var err error
	p.record = fromWire(m.Record)
	if p.Record, p.Checked, err = ceremony.VerifyRecord(c.Module.Key, p.record); err != nil {
		return unbelieved("the record of the ceremony is not by the module that you confirmed, %s (%w)", c.Module.Identity, err)
	}
	switch {
	case p.Digest != openingDigest:
		return unbelieved("the record is of another ceremony, %s", p.Opening.ID)
	case !bytes.Equal(m.Definition, p.Record.Definition):
		return unbelieved("the definition that it shows is another than the one in the module's record")
	case m.KeyBlock != "" && ceremony.Digest([]byte(m.KeyBlock)) != p.Record.Outcome.Block:
		return unbelieved("the key block is not the one that the module wrote: use it for nothing")
	}
	p.State, p.KeyBlock = keydv1.Ceremony_COMPLETED, m.KeyBlock
	return nil
}

// underWay checks papers without a record.
func (p *Papers) underWay(c *Client, m *keydv1.Ceremony, opening *ceremony.Opening, digest string) error {
	if m.State == keydv1.Ceremony_COMPLETED {
		return unbelieved("it says that the ceremony was carried out, and shows no record that the module has signed")
	}
	papers := ceremony.Proceedings{Opening: fromWire(m.Opening), Definition: m.Definition}
	for _, s := range m.Submissions {
		papers.Submissions = append(papers.Submissions, ceremony.Submission{Statement: fromWire(s)})
	}
	for _, a := range m.Approvals {
		papers.Approvals = append(papers.Approvals, fromWire(a))
	}
	// At a time at which it had not expired: whether it has is for who acts on it to ask.
	checked, err := papers.Check(c.Module.Key, c.Module.Officers, opening.Opened)
	if err == nil {
		p.Checked = checked
		return nil
	}
	if opening.Roster == digestOf(c.Module.Roster) {
		return unbelieved("a paper of the ceremony is not what an officer of the roster has signed (%w)", err)
	}
	if m.State == keydv1.Ceremony_OPEN {
		return fmt.Errorf("this ceremony counts on another roster than the one that you confirmed, so nobody can finish it: call it off with keyd ceremony abort, and begin another (%w)", err)
	}
	// It is over. Its officers may have left the roster since.
	over, err := openingOnly(m, opening, digest, "the roster has changed since, so who signed what cannot be checked")
	if err != nil {
		return err
	}
	*p = *over
	return nil
}

// checkValues compares everybody's word about the check value of the whole key.
func (p *Papers) checkValues(said string) error {
	if p.Record != nil {
		p.CheckValue, p.Vouched = p.Record.Outcome.CheckValue, "signed by the module"
		if said != "" && said != p.CheckValue {
			return unbelieved("it says that the key has the check value %.12q, the module's record says %q", said, p.CheckValue)
		}
		return nil
	}
	if said != "" && (len(said) != 6 || !isUpperHex(said)) {
		return unbelieved("the check value that it shows is malformed")
	}
	if p.Unchecked != "" {
		return nil
	}
	p.CheckValue, p.Vouched = said, "the service's word only"
	if d := p.Definition; d.Kind != ceremony.Init && d.CheckValue != "" && said != "" {
		if said != d.CheckValue {
			return unbelieved("it says that the whole key has the check value %s, the definition demands %s: approve nothing", said, d.CheckValue)
		}
		p.Vouched = "as the definition demands"
	}
	if signed := p.Opening.CheckValue; signed != "" {
		if said != "" && said != signed {
			return unbelieved("it says that the whole key has the check value %s, the module signed %s: approve nothing", said, signed)
		}
		p.CheckValue, p.Vouched = signed, "signed by the module"
	}
	if p.Missing().Components > 0 {
		return nil
	}
	for _, a := range p.Approvals {
		if a.CheckValue != p.CheckValue {
			return unbelieved("%s has approved the check value %q, it shows %q: ask %s which is right, and approve nothing before", a.Officer, a.CheckValue, p.CheckValue, a.Officer)
		}
	}
	if err := p.CheckApprovals(p.CheckValue); err != nil {
		return unbelieved("an officer has approved other components than those that it shows (%w)", err)
	}
	if p.CheckValue != "" && len(p.Approvals) > 0 {
		p.Vouched += "; approved by " + p.Approvals[0].Officer
	}
	return nil
}

func isUpperHex(s string) bool {
	for i := range len(s) {
		if v, ok := nibble(s[i]); !ok || digit(v) != s[i] {
			return false
		}
	}
	return true
}

// HasCheckValue reports whether there is a check value of the whole key to approve.
func (p *Papers) HasCheckValue() bool {
	switch p.Definition.Kind {
	case ceremony.Load, ceremony.Import, ceremony.Attach:
		return true
	}
	return p.CheckValue != ""
}

// Compare compares the definition that the module has opened the ceremony for with the
// officer's own copy.
func (p *Papers) Compare(own *ceremony.Definition) error {
	digest, err := own.Digest()
	if err != nil {
		return err
	}
	if digest != p.Opening.Definition {
		return fmt.Errorf("%w: the module has opened the ceremony for another definition than yours\n  opened %s\n  yours  %s\nsomebody has exchanged it, or you have another file: enter and approve nothing, and compare the files with who began it (%s)",
			ErrNotBelieved, ceremony.FormatFingerprint(p.Opening.Definition), ceremony.FormatFingerprint(digest), p.Opening.Officer)
	}
	return nil
}

// acts reports whether the ceremony can still be acted on.
func (p *Papers) acts(now time.Time) error {
	switch {
	case p.Record != nil:
		return errors.New("the ceremony was carried out: keyd ceremony show has its record")
	case p.State == keydv1.Ceremony_ABORTED:
		return errors.New("the service says that the ceremony was called off: begin another")
	case p.State != keydv1.Ceremony_OPEN || now.Unix() >= p.Opening.Expires:
		return fmt.Errorf("the ceremony has expired, at %s: begin another", At(p.Opening.Expires))
	}
	return nil
}

// At writes a time of a document.
func At(seconds int64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateTime) + " UTC"
}

// count writes a number of things.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Open reports whether officers can still act on the ceremony.
func (p *Papers) Open(now time.Time) bool { return p.acts(now) == nil }

// Lacks says what a ceremony waits for that lacks components and approvals, or nothing.
func Lacks(components, approvals int) string {
	var parts []string
	if components > 0 {
		parts = append(parts, count(components, "component", "components"))
	}
	if approvals > 0 {
		parts = append(parts, count(approvals, "approval", "approvals"))
	}
	return strings.Join(parts, ", then ")
}

// Waiting returns the officers of the roster who have not done what is needed next:
// entered a component while any is missing, else approved.
func (p *Papers) Waiting(r *ceremony.Roster) (action ceremony.Action, officers []string) {
	m := p.Missing()
	switch {
	case m.Components > 0 && p.Definition.MasterKeys != nil:
		for index := 1; index <= p.Places(); index++ {
			if p.entered(index) == nil {
				officers = append(officers, p.Definition.MasterKeys.Holder(index))
			}
		}
		slices.Sort(officers)
		return ceremony.Submit, slices.Compact(officers)
	case m.Components > 0:
		return ceremony.Submit, without(Names(r), p.Submissions)
	case m.Approvals > 0:
		return ceremony.Approve, without(Names(r), p.Approvals)
	}
	return "", nil
}

// without returns the officers who have made none of the statements.
func without(names []string, made []*ceremony.Statement) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(made, func(s *ceremony.Statement) bool { return s.Officer == name })
	})
}
