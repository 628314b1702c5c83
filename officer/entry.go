package officer

import (
	"errors"
	"fmt"
	"io"
)

// Ask opens the terminal for some questions.
func Ask(questions func(*Terminal) error) error {
	t, err := OpenTerminal()
	if err != nil {
		return err
	}
	defer t.Close() //nolint:errcheck // it was only asked at
	return questions(t)
}

// Entry is how a component comes in: typed from paper, read from a descriptor, or made.
type Entry struct {
	Label     string // "component 2 of zone-issuer"
	Algorithm string
	Bytes     int

	New     bool // it is made, at random, and written down by the officer
	Written bool // it is typed line by line, with the digits that check each line

	From io.Reader // it is read from here, in place of the terminal
	To   io.Writer // it is written here, in place of the terminal

	// CheckValue is what the component must have. Where it is empty the officer is shown
	// the check value and asked.
	CheckValue string
}

// Take returns the component and its check value, which the officer has confirmed. The
// caller destroys the component.
func (e Entry) Take() (_ *Secret, checkValue string, err error) {
	var component *Secret
	defer func() {
		if err != nil {
			component.Destroy()
		}
	}()
	switch {
	case e.New:
		component, err = Random(e.Bytes)
	case e.From != nil:
		component, err = ReadSecretFrom(e.From, e.Bytes)
	default:
		err = Ask(func(t *Terminal) (err error) {
			if e.Written {
				component, err = t.ReadWritten(e.Label, e.Bytes)
			} else {
				component, err = t.ReadComponent(e.Label, e.Bytes)
			}
			return err
		})
	}
	if err != nil {
		return nil, "", err
	}
	if checkValue, err = CheckValue(e.Algorithm, component.Bytes()); err != nil {
		return nil, "", err
	}
	if e.New {
		err = e.show(component, checkValue)
	} else {
		err = e.confirm(checkValue)
	}
	return component, checkValue, err
}

// show gives a new component to its officer, once.
func (e Entry) show(component *Secret, checkValue string) error {
	text, err := Groups(component)
	if err != nil {
		return err
	}
	defer text.Destroy()
	if e.To != nil {
		if _, err := e.To.Write(text.Bytes()); err != nil {
			return fmt.Errorf("write the component to its descriptor: %w", err)
		}
		return nil
	}
	return Ask(func(t *Terminal) error {
		title := fmt.Sprintf("%s, check value %s. It is shown this once.\nThe last two digits of each line check the line.", capital(e.Label), checkValue)
		if err := t.Show(title, text); err != nil {
			return err
		}
		// The paper is compared with the component while it can still be made anew.
		return t.Confirm(fmt.Sprintf("Check value %s. Is %s written down, with its check value? (yes)", checkValue, e.Label), "yes")
	})
}

func (e Entry) confirm(checkValue string) error {
	if e.CheckValue != "" {
		if want := NormalCheckValue(e.CheckValue); want != checkValue {
			return fmt.Errorf("the component has the check value %s, and you expect %s: a digit is wrong, or it is another component; nothing was sent", checkValue, want)
		}
		return nil
	}
	err := Ask(func(t *Terminal) error {
		return t.Confirm(fmt.Sprintf("Check value of %s: %s. Is that the one on the paper? (yes)", e.Label, checkValue), "yes")
	})
	if errors.Is(err, ErrNoTerminal) {
		return fmt.Errorf("%w; without one, say with --component-check-value what it must have", err)
	}
	return err
}

func capital(text string) string {
	if text == "" || text[0] < 'a' || text[0] > 'z' {
		return text
	}
	return string(text[0]-'a'+'A') + text[1:]
}
