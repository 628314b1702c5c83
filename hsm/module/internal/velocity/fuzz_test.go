package velocity

import (
	"encoding/binary"
	"testing"
	"time"
)

// FuzzFile gives the table a file in which anything may stand anywhere: it is refused,
// or it works. data is pieces that are laid over the file: offset (4 bytes, modulo the
// size), length (1 byte) and content.
func FuzzFile(f *testing.F) {
	piece := func(at int, content ...byte) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, uint32(at)), byte(len(content))), content...)
	}
	ones := []byte{255, 255, 255, 255, 255, 255, 255, 255}
	f.Add([]byte(nil))
	f.Add(piece(0, 1))
	for at := 0; at < 640; at += 8 {
		f.Add(piece(at, ones...))
	}
	for at := headerSize; at < headerSize+setSize; at += 32 {
		f.Add(piece(at, append(ones, ones...)...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := newTestClock()
		file := memoryFile(t)
		table := openTable(t, file, 1, threeFiveEight, c)
		subjects := inSet(table, 0, 10) // of the set that is laid over
		for _, s := range subjects {
			allowed(table, Verification, s, 4)
		}
		if err := table.Permit(Verification, subjects[0], time.Hour); err != nil {
			t.Fatal(err)
		}
		closeTable(t, table)
		b := contents(t, file)
		for len(data) > 5 {
			at, n := int(binary.BigEndian.Uint32(data))%len(b), int(data[4])
			data = data[5:]
			n = min(n, len(data))
			copy(b[at:], data[:n])
			data = data[n:]
		}
		damaged := restored(t, b)
		if err := damaged.Chmod(0o600); err != nil {
			t.Fatal(err)
		}
		if accept(damaged, minEntries/places) != nil {
			return
		}
		for boot := 1; boot <= 2; boot++ { // the same one, then another
			table, err := Open(int(damaged.Fd()), testKey, bootID(boot), threeFiveEight, c.clock())
			if err != nil {
				return
			}
			for _, s := range subjects {
				if got := allowed(table, Verification, s, 20); got > 3 {
					t.Fatalf("%d allowed in a minute", got)
				}
			}
			table.Redeem(Verification, subjects[0])
			table.Reset(Verification, subjects[1])
			_ = table.Permit(Verification, subjects[2], time.Hour) // there may be no room
			table.Stats()
			if err := table.syncIfDue(); err != nil {
				t.Fatal(err)
			}
			closeTable(t, table)
			if err := MarkClean(damaged, bootID(boot)); err != nil {
				t.Fatal(err)
			}
			c.reboot(time.Hour)
		}
	})
}
