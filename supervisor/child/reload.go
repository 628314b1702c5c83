package child

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Opened is the files of a reload. Whoever takes it closes it.
type Opened struct {
	Files []OpenedFile
	seq   uint32
}

// OpenedFile is a file that the supervisor has opened for this process, which cannot open
// it itself: its confinement is bound to the files that were there when it started.
type OpenedFile struct {
	Name string   // what it is: "policy"
	Path string   // for messages
	File *os.File // nil if it could not be opened
	Err  error    // why
}

// Get returns the file of that name. The error says why there is none.
func (o Opened) Get(name string) (*os.File, error) {
	for _, f := range o.Files {
		if f.Name == name {
			return f.File, f.Err
		}
	}
	return nil, errors.New("the supervisor has opened no " + name)
}

// Has reports whether the reload is about a file of that name, opened or not.
func (o Opened) Has(name string) bool {
	return slices.ContainsFunc(o.Files, func(f OpenedFile) bool { return f.Name == name })
}

// Close closes the files.
func (o Opened) Close() {
	for _, f := range o.Files {
		if f.File != nil {
			_ = f.File.Close() // only read
		}
	}
}

// openedFiles gives the descriptors their names; there are as many as the message says.
func openedFiles(r *Reload, fds []int) (files []OpenedFile) {
	for _, f := range r.Files {
		file := OpenedFile{Name: f.Name, Path: f.Path}
		if f.Error != "" {
			file.Err = errors.New(f.Error)
		} else {
			unix.CloseOnExec(fds[0])
			file.File, fds = os.NewFile(uintptr(fds[0]), f.Path), fds[1:]
		}
		files = append(files, file)
	}
	return files
}

// offer keeps a reload until it is taken, the newest only: the files of an older one have
// been replaced since. Only the goroutine that reads the control socket calls it.
func (c *Control) offer(o Opened) {
	for {
		select {
		case c.reloads <- o:
			return
		default:
		}
		select {
		case old := <-c.reloads:
			old.Close()
		default:
		}
	}
}
