package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// maxTyped is the longest line that a keypad takes, in bytes.
const maxTyped = 8 << 10

// errNothingTyped is returned at the end of standard input.
var errNothingTyped = errors.New("standard input has ended: nothing more was typed")

// keypad is where a person types, one line after the other: this terminal, or standard input. It
// reads no further than the line, so that no PIN stays behind in a buffer.
type keypad struct{}

// secret reads a line that nobody is to see, without its end. From a terminal it has no echo.
func (keypad) secret(label string) ([]byte, error) {
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		fmt.Fprint(os.Stderr, label+": ")
		line, err := term.ReadPassword(fd)
		fmt.Fprintln(os.Stderr)
		return line, err
	}
	return typedLine()
}

// line reads a line that may be seen.
func (keypad) line(label string) (string, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(os.Stderr, label+": ")
	}
	b, err := typedLine()
	return string(b), err
}

func typedLine() ([]byte, error) {
	line := make([]byte, 0, maxTyped) // which never moves
	one := make([]byte, 1)
	defer clear(one)
	for {
		n, err := os.Stdin.Read(one)
		switch {
		case n == 1 && one[0] == '\n', errors.Is(err, io.EOF) && len(line) > 0:
			for len(line) > 0 && line[len(line)-1] == '\r' {
				line = line[:len(line)-1]
			}
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, errNothingTyped
		case err != nil:
			clear(line)
			return nil, err
		case n == 1 && len(line) == maxTyped:
			clear(line)
			return nil, fmt.Errorf("a line of standard input has more than %d bytes", maxTyped)
		case n == 1:
			line = append(line, one[0])
		}
	}
}
