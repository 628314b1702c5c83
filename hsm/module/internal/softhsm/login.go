// Package softhsm keeps a SoftHSM token whole while processes that use it are killed, and
// makes sure that what is written to it is there.
//
// Each login makes SoftHSM 2.6.1 write the token's own file (token.object) anew: it
// empties the file, gives its lock back and only then writes. A process that is killed
// in between leaves an empty file, and with that the token is gone with every key on it.
// A process that reads in between takes the token for one that is not there.
//
// So logins of keyd's processes come one after the other, and before each one the file
// is copied, or is made anew from the copy where a killed process has left it empty. The
// lock ends with its process. A token of another kind has no such file, and nothing
// happens.
//
// SoftHSM does not have the disk write its files, and says that an object was made also
// where its file could not be written: [Store.Keep].
//
// Only hsm/module uses it.
package softhsm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tokenFile = "token.object"
	copyFile  = "token.object.keyd" // SoftHSM passes over what does not end in ".object"
	newSuffix = ".new"
)

// settle is how long an empty file may be another program's that is about to write it.
const settle = 50 * time.Millisecond

// counter is the size in bytes of what begins the file: how often it was written.
const counter = 8

// Login is the right to load SoftHSM and to log in.
type Login struct {
	locks  []*os.File
	mended []string
}

// Begin waits until no other process of keyd logs in to a token below the directories,
// and sees to it that those tokens are whole. It comes before the library is loaded.
func Begin(directories []string) (_ *Login, err error) {
	tokens, err := find(directories)
	if err != nil {
		return nil, err
	}
	l := &Login{}
	defer func() {
		if err != nil {
			l.End()
		}
	}()
	for _, token := range tokens { // sorted: two processes take the locks in one order
		if err := l.lock(token); err != nil {
			return nil, fmt.Errorf("SoftHSM token %s: %w", token, err)
		}
		if err := l.keep(token); err != nil {
			return nil, fmt.Errorf("SoftHSM token %s: %w", token, err)
		}
	}
	return l, nil
}

// Mended returns the folders of tokens that a killed process had left broken.
func (l *Login) Mended() []string { return l.mended }

// End lets the next process log in. It may be called twice.
func (l *Login) End() {
	for _, f := range l.locks {
		_ = f.Close() // and with it the lock
	}
	l.locks = nil
}

// find returns the folders of tokens: SoftHSM's folder is one of the directories or
// directly in one, and has a folder for each token.
func find(directories []string) (tokens []string, err error) {
	for _, d := range directories {
		for _, below := range []string{"*", "*/*"} {
			files, err := filepath.Glob(filepath.Join(escape(d), below, tokenFile))
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				tokens = append(tokens, filepath.Dir(f))
			}
		}
	}
	slices.Sort(tokens)
	return slices.Compact(tokens), nil
}

// escape makes a pattern that only the path itself matches.
func escape(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}

func (l *Login) lock(token string) error {
	f, err := os.Open(token)
	if err != nil {
		return err
	}
	l.locks = append(l.locks, f)
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// keep copies a token's file, or makes it anew.
func (l *Login) keep(token string) error {
	path, kept := filepath.Join(token, tokenFile), filepath.Join(token, copyFile)
	now, err := os.ReadFile(path)
	if err == nil && len(now) == 0 {
		time.Sleep(settle)
		now, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	before, err := os.ReadFile(kept)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case len(now) == 0 && len(before) == 0:
		return nil // nobody has ever logged in: nothing was on it
	case len(now) == 0:
		l.mended = append(l.mended, token)
		return replace(path, before)
	case bytes.Equal(now[min(counter, len(now)):], before[min(counter, len(before)):]):
		return nil
	}
	return replace(kept, now)
}

// replace writes a file so that it is there as a whole or not at all.
func replace(path string, content []byte) error {
	f, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+newSuffix, path)
}
