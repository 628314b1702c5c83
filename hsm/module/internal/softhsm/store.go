package softhsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Store is the token's store: its directories.
type Store []string

// patience is how long an object that is not whole may be another process's, which writes it.
const patience = time.Second

// Keep runs write, which puts objects on the token, and returns when they are on the disk, as
// a whole. SoftHSM 2.6.1 answers that an object was made, and shows it to its own process,
// also where the disk was full and the file has nothing, or a part.
func (s Store) Keep(write func() error) error {
	before, err := s.objects()
	if err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	for until := time.Now().Add(patience); ; time.Sleep(settle) {
		broken, err := s.broken(before)
		if err != nil || broken == "" {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("the token has not kept what was written (%s): its disk may be full", broken)
		}
	}
}

// broken returns a new object that is not whole, or nothing when all are, and on the disk.
func (s Store) broken(before map[string]struct{}) (string, error) {
	after, err := s.objects()
	if err != nil {
		return "", err
	}
	folders := make(map[string]struct{})
	for path := range after {
		if _, old := before[path]; old {
			continue
		}
		ok, err := kept(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // another process has destroyed it
		}
		if err != nil {
			return "", err
		}
		if !ok {
			return path, nil
		}
		folders[filepath.Dir(path)] = struct{}{}
	}
	for folder := range folders {
		if err := on(folder, (*os.File).Sync); err != nil {
			return "", err
		}
	}
	return "", nil
}

// kept has an object's file on the disk, and reports whether it is whole.
func kept(path string) (ok bool, err error) {
	err = on(path, func(f *os.File) error {
		content, err := io.ReadAll(f)
		if ok = err == nil && whole(content); !ok {
			return err
		}
		return f.Sync()
	})
	return ok && err == nil, err
}

// on does something with an open file or folder.
func on(path string, do func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

// Sync has the store on the disk, with what was destroyed: SoftHSM itself does not. It takes
// as long as the file system has to write, whoever wrote.
func (s Store) Sync() error {
	for _, path := range s {
		if err := on(path, func(dir *os.File) error { return unix.Syncfs(int(dir.Fd())) }); err != nil {
			return fmt.Errorf("write the token's store to the disk: %w", err)
		}
	}
	return nil
}

// objects returns the files of the tokens' objects.
func (s Store) objects() (map[string]struct{}, error) {
	tokens, err := find(s)
	if err != nil {
		return nil, err
	}
	objects := make(map[string]struct{})
	for _, token := range tokens {
		files, err := filepath.Glob(filepath.Join(escape(token), "*.object"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if filepath.Base(f) != tokenFile {
				objects[f] = struct{}{}
			}
		}
	}
	return objects, nil
}

// Kinds of attributes in an object's file, and the attribute that all objects have and that
// lies behind their values, since SoftHSM writes them in the order of their numbers.
const (
	kindBool       = 1
	kindNumber     = 2
	kindBytes      = 3
	kindAttributes = 4
	kindMechanisms = 5

	destroyable = 0x172 // CKA_DESTROYABLE
)

// whole reports whether an object's file ends where its last attribute does, and has what
// every object has: a count, and then attributes, each a type, a kind and a value.
func whole(file []byte) bool {
	if len(file) < counter {
		return false
	}
	complete := false
	for file = file[counter:]; len(file) > 0; {
		if len(file) < 16 {
			return false
		}
		attribute, kind := binary.BigEndian.Uint64(file), binary.BigEndian.Uint64(file[8:])
		file = file[16:]
		size := uint64(8)
		switch kind {
		case kindBool:
			size = 1
		case kindNumber:
		case kindBytes, kindAttributes, kindMechanisms:
			if len(file) < 8 {
				return false
			}
			n := binary.BigEndian.Uint64(file)
			file = file[8:]
			if size = n; kind == kindMechanisms {
				size = 8 * min(n, 1<<32)
			}
		default:
			return false
		}
		if uint64(len(file)) < size {
			return false
		}
		file = file[size:]
		complete = complete || attribute == destroyable
	}
	return complete
}
