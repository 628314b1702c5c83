package register

import "encoding/binary"

// countAt is a place of the page that nothing uses.
const countAt = 2048

// Count adds to a counter of the page, as many times, each time under the lock and in steps
// that another could come between.
func (p *Page) Count(times int) error {
	for range times {
		unlock, err := p.lock()
		if err != nil {
			return err
		}
		n := binary.NativeEndian.Uint64(p.memory[countAt:])
		p.raise(n, [32]byte{byte(n)})
		binary.NativeEndian.PutUint64(p.memory[countAt:], n+1)
		if err := unlock(); err != nil {
			return err
		}
	}
	return nil
}

// Counted is what was counted, and the version that was raised last.
func (p *Page) Counted() (count, version uint64) {
	version, _ = p.pinned()
	return binary.NativeEndian.Uint64(p.memory[countAt:]), version
}
