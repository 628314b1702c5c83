package checkpoint

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
)

// prefix begins every origin. The byte after "keyd" keeps checkpoints apart from all else
// that a module signs.
const prefix = "keyd/"

// MaxOrigin bounds an origin, in bytes.
const MaxOrigin = 5 + maxNode + 1 + 32

// maxNode bounds the name of a node, in bytes.
const maxNode = 63

var (
	nodeForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	originForm = regexp.MustCompile(`^keyd/([a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?/)?[0-9a-f]{32}$`)
)

// ErrNode says that a name is none that an origin can have.
var ErrNode = errors.New("the name of a node has 1 to 63 lower-case letters, digits, dots and hyphens, and begins and ends with a letter or digit")

// ValidNode reports whether an origin can have that name of a node; none is one, too.
func ValidNode(node string) bool { return node == "" || nodeForm.MatchString(node) }

// NewOrigin names a new log: "keyd/", the name of the node and a slash unless it is empty,
// and 128 random bits as 32 lower-case hex digits. The error is [ErrNode].
func NewOrigin(node string) (string, error) {
	if !ValidNode(node) {
		return "", ErrNode
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("name the log: %w", err)
	}
	if node != "" {
		node += "/"
	}
	return prefix + node + hex.EncodeToString(id[:]), nil
}

// ValidOrigin reports whether a text is what [NewOrigin] returns.
func ValidOrigin(s string) bool { return len(s) <= MaxOrigin && originForm.MatchString(s) }
