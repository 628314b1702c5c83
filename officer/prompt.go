package officer

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrNotConfirmed is returned where something else was typed than what was asked for.
var ErrNotConfirmed = errors.New("not confirmed: what was typed is not what was asked for, and nothing was done")

// maxAnswer bounds what is typed to confirm, in bytes.
const maxAnswer = 256

// Confirm asks the question and succeeds if want is typed: "yes", or a check value that
// the officer has from elsewhere, which the question then must not show. White space and
// case do not count. Anything else is ErrNotConfirmed; it is not asked twice.
func (t *Terminal) Confirm(question, want string) error {
	expected := answer([]byte(want))
	if len(expected) == 0 {
		return ErrNotConfirmed // whatever is typed
	}
	typed, err := t.line(shown(question)+" ", maxAnswer, true)
	if err != nil {
		return err
	}
	defer typed.Destroy()
	if subtle.ConstantTimeCompare(answer(typed.trimmed()), expected) != 1 {
		return ErrNotConfirmed
	}
	return nil
}

// answer brings what people type into one form.
func answer(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToUpper(r)
	}, text)
}

// Passphrase asks for a passphrase of at most 512 bytes without echo; twice asks for it
// again until both are equal, as is done for a new one. The caller wipes it. It is never
// empty: Ctrl-C is how to give up.
func (t *Terminal) Passphrase(label string, twice bool) ([]byte, error) {
	prompt := shown(label) + ": "
	for {
		typed, err := t.line(prompt, maxPassphrase, false)
		if err != nil {
			return nil, err
		}
		equal := true
		if twice {
			again, err := t.line(shown(label)+", again: ", maxPassphrase, false)
			if err != nil {
				typed.Destroy()
				return nil, err
			}
			equal = bytes.Equal(typed.trimmed(), again.trimmed())
			again.Destroy()
		}
		if equal {
			passphrase := bytes.Clone(typed.trimmed())
			typed.Destroy()
			return passphrase, nil
		}
		typed.Destroy()
		prompt = "The two differ. Type both again.\r\n" + shown(label) + ": "
	}
}

// typedLine is a line in memory of its own.
type typedLine struct {
	*Secret
	n int
}

func (l typedLine) trimmed() []byte { return l.Bytes()[:l.n] }

// line reads a line of at most max bytes of UTF-8, which is not empty. With echo it takes
// printable ASCII only: of other characters a terminal does not say how wide they are.
func (t *Terminal) line(prompt string, maximum int, echo bool) (typedLine, error) {
	s, err := NewSecret(maximum)
	if err != nil {
		return typedLine{}, err
	}
	l := typedLine{s, 0}
	err = t.raw("", func(k *keyboard) error {
		k.write(prompt)
		defer k.write("\r\n")
		for {
			b, err := k.key()
			if err != nil {
				return err
			}
			switch {
			case b == '\r' || b == '\n':
				if l.n == 0 || !utf8.Valid(l.trimmed()) {
					k.write("\a\r\nNothing was typed, or half a character; Ctrl-C gives up.\r\n" + prompt)
					l.erase(k, echo, l.n)
					continue
				}
				return nil
			case b == ctrlD && l.n == 0:
				return ErrInterrupted
			case b == backspace || b == deleted:
				_, size := utf8.DecodeLastRune(l.trimmed())
				l.erase(k, echo, size)
			case b == ctrlU:
				l.erase(k, echo, l.n)
			case b < 0x20 || echo && b >= deleted || l.n == maximum:
				k.ring()
			default:
				l.Bytes()[l.n] = b
				l.n++
				if echo {
					k.writeBytes([]byte{b})
				}
			}
		}
	})
	if err != nil {
		s.Destroy()
		return typedLine{}, err
	}
	return l, nil
}

func (l *typedLine) erase(k *keyboard, echo bool, bytes int) {
	clear(l.Bytes()[l.n-bytes : l.n])
	l.n -= bytes
	if echo {
		k.write(strings.Repeat("\b \b", bytes))
	}
}
