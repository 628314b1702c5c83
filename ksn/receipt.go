package ksn

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"time"

	"keyd/store"
)

// Limits of what is kept for a retry, in bytes.
const (
	MaxRequest = 4096
	MaxAnswer  = 64
)

// A receipt is the answer to one request, for whoever repeats that request:
//
//	1 byte    version, 1
//	8 bytes   ID of the receipt key
//	12 bytes  nonce
//	n bytes   the answer under AES-256-GCM, which also authenticates the bytes before
//	16 bytes  GCM tag
//
// The encryption key is HMAC-SHA-256 under the receipt key over a domain, the counters
// and the request: a receipt that does not open belongs to another request.
const (
	receiptVersion = 1
	receiptNonce   = 1 + 8
	receiptAnswer  = receiptNonce + nonceSize

	nonceSize = 12
	gcmSize   = 16

	minReceipt = receiptAnswer + gcmSize
	maxReceipt = minReceipt + MaxAnswer
)

// A receipt must fit where it is kept: one byte counts its length.
const (
	_ = uint(store.MaxReceipt - maxReceipt)
	_ = uint8(maxReceipt)
)

const receiptDomain = "keyd ksn receipt 1\x00"

// receiptKey is a key under which receipts are made for a while. It is safe for
// concurrent use.
type receiptKey struct {
	id      uint64
	created time.Time
	own     bool // made by this process
	macs    sync.Pool
}

func newReceiptKey(k *store.ReceiptKey, own bool) *receiptKey {
	key := k.Key
	r := &receiptKey{id: k.ID, created: k.CreatedAt, own: own}
	// A hash that was reset keeps the state after the key, which is half of the work.
	r.macs.New = func() any { return hmac.New(sha256.New, key[:]) }
	return r
}

// derive returns the encryption key for the receipt of a request.
func (k *receiptKey) derive(spans []span, request []byte) (key [sha256.Size]byte) {
	mac := k.macs.Get().(hash.Hash)
	defer k.macs.Put(mac)
	mac.Reset()
	var buffer [len(receiptDomain) + 1 + maxUses*(sequenceSize+8)]byte
	head := append(buffer[:0], receiptDomain...)
	head = append(head, byte(len(spans)))
	for i := range spans {
		head = append(head, spans[i].sequence[:]...)
		head = binary.BigEndian.AppendUint32(head, spans[i].first)
		head = binary.BigEndian.AppendUint32(head, spans[i].last)
	}
	mac.Write(head)
	mac.Write(request)
	mac.Sum(key[:0])
	return key
}

// seal makes the receipt.
func (k *receiptKey) seal(spans []span, request, answer []byte) ([]byte, error) {
	key := k.derive(spans, request)
	defer clear(key[:])
	b := make([]byte, 0, minReceipt+len(answer))
	b = append(b, receiptVersion)
	b = binary.BigEndian.AppendUint64(b, k.id)
	b = b[:receiptAnswer]
	rand.Read(b[receiptNonce:]) // never fails
	gcm, err := newGCM(&key)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(b, b[receiptNonce:receiptAnswer], answer, b[:receiptNonce]), nil
}

// open returns the answer of a receipt, which is not nil, and false for one that belongs to another
// request or is not a receipt under this key.
func (k *receiptKey) open(spans []span, request, receipt []byte) ([]byte, bool) {
	id, ok := receiptKeyID(receipt)
	if !ok || id != k.id {
		return nil, false
	}
	key := k.derive(spans, request)
	defer clear(key[:])
	gcm, err := newGCM(&key)
	if err != nil {
		return nil, false
	}
	answer, err := gcm.Open([]byte{}, receipt[receiptNonce:receiptAnswer], receipt[receiptAnswer:], receipt[:receiptNonce])
	if err != nil {
		return nil, false
	}
	return answer, true
}

func newGCM(key *[sha256.Size]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("ksn: make a receipt: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("ksn: make a receipt: %w", err)
	}
	return gcm, nil
}

// receiptKeyID returns the ID of the key under which a receipt was made, and false for
// bytes that are no receipt.
func receiptKeyID(receipt []byte) (uint64, bool) {
	if len(receipt) < minReceipt || len(receipt) > maxReceipt || receipt[0] != receiptVersion {
		return 0, false
	}
	return binary.BigEndian.Uint64(receipt[1:]), true
}
