package officer

import (
	"errors"
	"fmt"
)

// Confirm has the officer confirm an approval, and returns the check value to approve. given
// is what a script says of the check value, and sure that it approves without being asked;
// a ceremony with a check value needs it all the same.
func (p *Papers) Confirm(given string, sure bool) (string, error) {
	switch {
	case given != "":
		given = NormalCheckValue(given)
		return given, p.Expect(given)
	case p.HasCheckValue() && sure:
		return "", fmt.Errorf("the whole key has a check value to approve: say with --check-value which one the letter has")
	case sure:
		return "", nil
	}
	err := Ask(func(t *Terminal) error {
		if p.HasCheckValue() {
			return t.Confirm("Type the check value of the whole key from the letter that came with it, to approve:", p.CheckValue)
		}
		return t.Confirm("Approve? (yes)", "yes")
	})
	if errors.Is(err, ErrNoTerminal) {
		return "", fmt.Errorf("%w (--check-value where there is one, else --yes)", err)
	}
	return p.CheckValue, err
}

// ConfirmModule has the officer compare fingerprints with those that the others were shown.
// identity and roster are what a script says that they are; both or neither are given.
func ConfirmModule(question string, shownIdentity, shownRoster Fingerprint, identity, roster string) error {
	if identity == "" && roster == "" {
		err := Ask(func(t *Terminal) error { return t.Confirm(question, "yes") })
		if errors.Is(err, ErrNoTerminal) {
			return fmt.Errorf("%w (--identity and --roster)", err)
		}
		return err
	}
	for _, one := range []struct {
		what, given string
		shown       Fingerprint
	}{{"identity", identity, shownIdentity}, {"roster", roster, shownRoster}} {
		want, err := ParseFingerprint(one.given)
		if err != nil {
			return fmt.Errorf("--%s: %w; --identity and --roster belong together", one.what, err)
		}
		if !want.Equal(one.shown) {
			return fmt.Errorf("%w: the %s is another than the one that you expect\n  expected %s\n  shown    %s\nconfirm nothing: this is another module, or somebody in between", ErrNotBelieved, one.what, want, one.shown)
		}
	}
	return nil
}
