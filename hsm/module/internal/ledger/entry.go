package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
)

const (
	// Size is the size of an entry, in bytes.
	Size = 64

	keySize   = 16
	beginAt   = 1                     // place where the batch begins, 7 bytes
	keyAt     = 8                     // of the initial key, or the request
	deviceAt  = keyAt + keySize       // SHA-256 of the device's public key, or of the choice of keys
	spareAt   = deviceAt + 32         // zeros
	sumAt     = Size - 4              //
	version   = 1                     //
	maxPlace  = 1<<32 - 1             // entries are counted with 32 bits
	maxBatch  = 1024                  // entries that are written together
	readAhead = 4096                  // entries that are read together
	_         = uint(sumAt - spareAt) // they fit
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Device is the SHA-256 of a device's public key (SubjectPublicKeyInfo in DER).
type Device [sha256.Size]byte

// Entry binds an initial key to a device, or a request to a choice of keys.
type Entry struct {
	key    [keySize]byte
	device Device // or the choice of keys

	request bool // it is about a request; this is not in the file, where the key tells it
}

// NewEntry returns the entry that binds the initial key with that ID ([dukpt.KSN.InitialKeyID])
// under a base derivation key to a device. The BDK is named by the fingerprint of its value, so
// that one value under two names is one.
func NewEntry(fingerprint string, initialKeyID [8]byte, device Device) Entry {
	h := sha256.New()
	h.Write([]byte("keyd ledger 1\x00" + fingerprint + "\x00"))
	h.Write(initialKeyID[:])
	return Entry{key: [keySize]byte(h.Sum(nil)), device: device}
}

// NewRequestEntry returns the entry that binds a terminal's request to the choice of keys with
// which it is answered, each by its digest.
func NewRequestEntry(request, choice [sha256.Size]byte) Entry {
	h := sha256.New()
	h.Write([]byte("keyd ledger request 1\x00"))
	h.Write(request[:])
	return Entry{key: [keySize]byte(h.Sum(nil)), device: choice, request: true}
}

// append appends the entry for a place, in a batch that begins at another.
func (e *Entry) append(b []byte, place, begin uint64) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint64(b, version<<56|begin)
	b = append(b, e.key[:]...)
	b = append(b, e.device[:]...)
	b = append(b, make([]byte, sumAt-spareAt)...)
	return binary.BigEndian.AppendUint32(b, sum(b[at:], place))
}

// decode reads the entry at a place, and where its batch begins. It accepts exactly what append
// returns.
func decode(b []byte, place uint64) (e Entry, begin uint64, ok bool) {
	if len(b) != Size || binary.BigEndian.Uint32(b[sumAt:]) != sum(b[:sumAt], place) {
		return Entry{}, 0, false
	}
	begin = binary.BigEndian.Uint64(b)
	if begin>>56 != version {
		return Entry{}, 0, false
	}
	begin &= 1<<56 - 1
	if begin > place || place-begin >= maxBatch || !bytes.Equal(b[spareAt:sumAt], make([]byte, sumAt-spareAt)) {
		return Entry{}, 0, false
	}
	copy(e.key[:], b[keyAt:])
	copy(e.device[:], b[deviceAt:])
	return e, begin, true
}

func sum(b []byte, place uint64) uint32 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], place)
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, b)
}
