package supervisor

import (
	"os"

	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
)

// reload is how far the front is with the files that it was handed.
type reload struct {
	seq     uint32 // of the newest reload
	heard   uint32 // of the newest that a front has answered
	pending bool   // the front has not said yet what became of it
	kept    bool   // the last one that it answered brought something wrong
	renewal bool   // the newest brought what the renew command replaced, and nothing else
	unused  bool   // the front does not use what the renew command replaced
}

// answered reports whether a front may say what became of that reload: of each once, so
// that one which was taken over cannot keep the supervisor busy. Of several that came at
// once it answers the newest alone.
func (r *reload) answered(seq uint32) bool {
	if int32(seq-r.heard) <= 0 || int32(r.seq-seq) < 0 {
		return false
	}
	r.heard = seq
	return true
}

// forget ends the wait for a front that has gone.
func (r *reload) forget() { r.pending, r.kept, r.unused = false, false, false }

// watchReload opens the files at each value of Reload, on a goroutine of its own: a file
// system that hangs must not hang the supervisor.
func (s *supervisor) watchReload() {
	if s.Reload == nil || len(s.Files) == 0 {
		return
	}
	s.tasks.Go(func() {
		for {
			select {
			case <-s.over:
				return
			case <-s.Reload:
			}
			s.bring(s.Files, false)
		}
	})
}

// bring opens files and has them handed to the front, and waits for that.
func (s *supervisor) bring(files []Reloadable, renewal bool) {
	opened := open(files)
	done := make(chan struct{})
	s.post(func() {
		defer close(done)
		s.handOver(opened, renewal)
	})
	select {
	case <-done:
	case <-s.over:
	}
	opened.close()
}

// opened are files for the front, with a message that names them.
type opened struct {
	message child.Reload
	files   []*os.File
}

// open opens files and reads nothing of them. Without waiting: a pipe in a file's place
// would wait for a writer.
func open(list []Reloadable) (o opened) {
	for _, r := range list {
		entry := child.ReloadFile{Name: r.Name, Path: r.Path}
		f, err := os.OpenFile(r.Path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			entry.Error = err.Error()
		} else {
			o.files = append(o.files, f)
		}
		o.message.Files = append(o.message.Files, entry)
	}
	return o
}

func (o opened) close() {
	for _, f := range o.files {
		_ = f.Close() // only passed on
	}
}

// handOver gives the front the files. A front that is yet to be started reads them by
// itself; one that is starting may have read the old ones, and is sent these too.
func (s *supervisor) handOver(o opened, renewal bool) {
	f := s.front
	if s.stage != running || f.process == nil || (f.phase != child.PhaseStarting && f.phase != child.PhaseReady) {
		s.Logger.Info("reload: the next front reads the files")
		return
	}
	s.reload.seq++
	s.reload.pending, s.reload.renewal = true, renewal
	s.Logger.Info("reload", "files", len(o.message.Files), "opened", len(o.files))
	s.say(f, child.Message{Type: child.TypeReload, Seq: s.reload.seq, Reload: &o.message}, o.files...)
}

// reloaded notes what the front says of a reload.
func (s *supervisor) reloaded(seq uint32, all bool) {
	if seq != s.reload.seq {
		return // a newer one is under way
	}
	s.reload.pending = false
	if s.reload.renewal {
		s.reload.unused = !all
	} else {
		s.reload.kept, s.reload.unused = !all, false
	}
	if all {
		s.Logger.Info("reload done")
		return
	}
	s.Logger.Error("reload: the front keeps what it had; its own message says why")
}
