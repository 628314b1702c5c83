package module

import (
	"crypto/ecdsa"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"keyd/ceremony"
	"keyd/checkpoint"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
)

// history is an audit log as a front keeps it.
type history struct{ stored []tlog.Hash }

// historyOrigin names every history: they are said to be one log.
const historyOrigin = "keyd/00000000000000000000000000000000"

func newHistory(lines ...string) *history { return new(history).add(lines...) }

func (h *history) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		list = append(list, h.stored[i])
	}
	return list, nil
}

func (h *history) add(lines ...string) *history {
	for _, line := range lines {
		n := int64(0)
		for tlog.StoredHashCount(n) < int64(len(h.stored)) {
			n++
		}
		more, err := tlog.StoredHashes(n, []byte(line), h)
		if err != nil {
			panic(err)
		}
		h.stored = append(h.stored, more...)
	}
	return h
}

func (h *history) tree(n int64) checkpoint.Tree {
	root, err := tlog.TreeHash(n, h)
	if err != nil {
		panic(err)
	}
	return checkpoint.Tree{Size: uint64(n), Root: root}
}

// request asks for a signature over the first n lines, with the proof from the first so many.
func (h *history) request(n, from int64) *wire.SignCheckpoint {
	tree := h.tree(n)
	m := &wire.SignCheckpoint{Origin: historyOrigin, Size: tree.Size, Root: tree.Root[:]}
	if from > 0 && from < n {
		proof, err := tlog.ProveTree(n, from, h)
		if err != nil {
			panic(err)
		}
		for _, hash := range proof {
			m.Proof = append(m.Proof, hash[:])
		}
	}
	return m
}

func (b *siege) signTree(h *history, n, from int64) error {
	return b.ask(wire.OpSignCheckpoint, h.request(n, from), &wire.CheckpointSigned{})
}

// mustSign expects a good signature by the token's identity.
func (b *siege) mustSign(h *history, n, from int64) {
	b.t.Helper()
	var signed wire.CheckpointSigned
	b.must(b.ask(wire.OpSignCheckpoint, h.request(n, from), &signed))
	key, err := checkpoint.ParseKey(signed.Key)
	b.must(err)
	if fingerprint, err := ceremony.KeyFingerprint(key); err != nil || fingerprint != b.identity {
		b.t.Errorf("signed by %s, not by the token's identity %s (%v)", fingerprint, b.identity, err)
	}
	if signed.Began != (from == 0) {
		b.t.Errorf("began: %t", signed.Began)
	}
	if _, err := checkpoint.Assemble(historyOrigin, h.tree(n), key, signed.Signature); err != nil {
		b.t.Error(err)
	}
}

// A front's client gets from a real token what verifies anywhere, and what it asks for in vain
// says why.
func TestCheckpointsOverTheClient(t *testing.T) {
	b := besiege(t)
	front, back := net.Pipe()
	b.server.attach(back)
	client := hsm.NewClient(10*time.Second, slog.New(slog.NewTextHandler(io.Discard, nil)))
	client.Attach(0, front)
	t.Cleanup(client.Close)
	log := newHistory("a", "b", "c")
	last, err := client.LastCheckpoint(t.Context(), historyOrigin)
	if err != nil || last.Size != 0 {
		t.Fatalf("%v, %v", last, err)
	}
	var key *ecdsa.PublicKey
	for n := int64(1); n <= 3; n++ {
		proof, err := log.proofFrom(last, n)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := client.SignCheckpoint(t.Context(), historyOrigin, log.tree(n), proof)
		if err != nil || signed.Began != (n == 1) || signed.Size != uint64(n) {
			t.Fatalf("%d: %+v, %v", n, signed, err)
		}
		if key != nil && !key.Equal(signed.Key) {
			t.Error("another key")
		}
		key = signed.Key
		if last, err = client.LastCheckpoint(t.Context(), historyOrigin); err != nil || last != log.tree(n) {
			t.Fatalf("%v, %v", last, err)
		}
	}
}

func (h *history) proofFrom(last checkpoint.Tree, n int64) ([]checkpoint.Hash, error) {
	if last.Size == 0 {
		return nil, nil
	}
	return tlog.ProveTree(n, int64(last.Size), h)
}
