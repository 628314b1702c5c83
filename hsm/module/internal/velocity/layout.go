package velocity

import (
	"sync/atomic"
	"unsafe"
)

// Sizes of the file, in bytes. Words have the machine's byte order: a file from a
// machine of the other one has another magic number.
const (
	headerSize = 4096
	setSize    = 1024
	sectorSize = 512
)

// Limits of what Create makes.
const (
	places     = 8 // of a set
	minEntries = 1 << 10
	maxEntries = 1 << 26
)

const (
	magic   = 0x4b45_5944_5645_4c4f // KEYDVELO
	version = 1
)

// header is the first page of the file. The words that belong together are in its
// first sector, so that they reach the disk together.
type header struct {
	magic   uint64
	version uint64
	sets    uint64

	key    atomic.Uint64 // check value of the subjects' key; 0 before the first module
	boot   atomic.Uint64 // 64 bits made of the boot ID
	era    atomic.Uint64 // see join.go; 0 before the first module
	clean  atomic.Uint64 // 1: all modules of the era have ended, and the file is on the disk
	latest atomic.Uint64 // latest tick that anyone saw
	begun  atomic.Uint64 // tick at which the last write to the disk began
	synced atomic.Uint64 // tick at which the last one that was completed began
	turn   atomic.Uint64 // tick before which nobody else begins one
	spent  atomic.Uint64 // tick at which every subject was presumed to have used up its tries; 0: none; see spent.go
	_      [20]uint64
	losses [32]atomic.Uint64 // era<<32 | last tick with lost counts; see loss.go

	permits [64]permit
	_       [headerSize - 512 - 64*32]byte
}

// permit is a way back for one subject.
type permit struct {
	state   atomic.Uint64 // tick of the last change<<32 | serial<<2 | what it is
	subject atomic.Uint64 // 64 bits of the subject's HMAC
	expires atomic.Uint64 // first tick at which it is dead
	_       uint64
}

// set is the two sectors in which a subject has its place.
type set [2]sector

// sector is four places, and what is left of subjects that had one.
type sector struct {
	holders   [places / 2]atomic.Uint64 // who has the place, see place.go
	counts    [places / 2]rings
	remainder rings
}

// rings are the counts of a minute, an hour and a day: eight buckets each, at the
// index of the bucket's number modulo 8. A bucket is the low 16 bits of its number, and
// a count of 16 bits that stays at its highest value.
type rings [3][8]atomic.Uint32

// The layout is what the constants say, or this does not compile.
var (
	_ [headerSize]byte = [unsafe.Sizeof(header{})]byte{}
	_ [512]byte        = [unsafe.Offsetof(header{}.permits)]byte{}
	_ [setSize]byte    = [unsafe.Sizeof(set{})]byte{}
	_ [sectorSize]byte = [unsafe.Sizeof(sector{})]byte{}
)

// at returns the holder and the counts of a place.
func (s *set) at(place int) (*atomic.Uint64, *rings) {
	half, i := &s[place/4], place%4
	return &half.holders[i], &half.counts[i]
}

// remainderOf returns the remainder of the sector that a place is in.
func (s *set) remainderOf(place int) *rings { return &s[place/4].remainder }

// fileSize returns the size in bytes of a file with n sets.
func fileSize(sets uint64) int64 { return headerSize + int64(sets)*setSize }
