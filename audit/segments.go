package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Names in the directory of a log.
const (
	treeFile       = "tree"       // hashes of the Merkle tree
	checkpointFile = "checkpoint" // the newest checkpoint
	keysFile       = "module.pem" // keys that signed checkpoints, as the modules gave them
	newSuffix      = ".new"       // what was not finished
	segmentSuffix  = ".log"
	listSuffix     = ".checkpoints"
)

// DirectoryName is the directory of the log within a state directory, and OldFile is what
// was there in its place up to version 1 of the log.
const (
	DirectoryName = "audit"
	OldFile       = "audit.log"
)

var segmentForm = regexp.MustCompile(`^audit-([0-9]{16})\.log$`)

// segmentName is the file that begins with that entry.
func segmentName(first uint64) string { return fmt.Sprintf("audit-%016d%s", first, segmentSuffix) }

// segment is a file of the log.
type segment struct {
	first uint64 // number of its first entry
	path  string
}

// list is the file of the checkpoints that were made while the segment was the newest.
func (s segment) list() string { return strings.TrimSuffix(s.path, segmentSuffix) + listSuffix }

func segmentOf(path string) (segment, bool) {
	m := segmentForm.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return segment{}, false
	}
	first, err := strconv.ParseUint(m[1], 10, 64)
	return segment{first, path}, err == nil && first > 0
}

// segments lists the segments in a directory, in their order.
func segments(dir string) (list []segment, err error) {
	entries, err := os.ReadDir(dir) // sorted by name, and so by number
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	for _, e := range entries {
		if s, ok := segmentOf(filepath.Join(dir, e.Name())); ok {
			list = append(list, s)
		}
	}
	return list, nil
}

// Segments returns the files of the segments in a directory, in their order: one at least.
func Segments(dir string) (paths []string, err error) {
	list, err := segments(dir)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("audit log: %s has no segment (files named %s)", dir, segmentName(1))
	}
	for _, s := range list {
		paths = append(paths, s.path)
	}
	return paths, nil
}

// ErrOldLog says that a log of version 1 is in the way.
var ErrOldLog = errors.New("this is an audit log of an earlier keyd, which goes on in no other")

// CheckOld refuses to begin a log beside one of version 1: [ErrOldLog], with what to do.
func CheckOld(state string) error {
	old := filepath.Join(state, OldFile)
	_, err := os.Lstat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return fmt.Errorf("%w: verify %s with the keyd that wrote it, move it to the archive, and start again: a new log then begins in %s", ErrOldLog, old, filepath.Join(state, DirectoryName))
}
