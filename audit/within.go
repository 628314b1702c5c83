package audit

import "time"

// AppendWithin is [Log.Append] that waits for at most that long: [ErrSlow] then.
func (l *Log) AppendWithin(limit time.Duration, e Entry) error {
	p, err := l.enter(e)
	if err != nil {
		return err
	}
	p.late.Reset(limit)
	select {
	case err := <-p.done:
		p.late.Stop()
		entries.Put(p)
		return err
	case <-p.late.C:
		return ErrSlow // the writer has p
	}
}
