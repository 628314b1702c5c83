package supervisor

import (
	"errors"
	"fmt"
)

var errProtocol = errors.New("said what is no signal")

// EndError says which child ended everything, and what to do about it.
type EndError struct {
	Child     string // "unlock", "provision", "front", "module 0"
	Status    string // how it ended
	Hint      string
	Permanent bool // another start cannot help: it ended with ExitPermanent

	code int // its exit status, or -1
}

// Error implements error.
func (e *EndError) Error() string {
	return fmt.Sprintf("the %s process ended (%s): %s", e.Child, e.Status, e.Hint)
}
