package pinops

import (
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
)

// ecb is one block for the token: a lane's, under a key that it may share with others.
type ecb struct {
	lane      *lane
	mechanism uint
	object    token.Object
	out, in   []byte // in the workspace; one block each, of one size
}

// together has the token encipher or decipher blocks, with one call for all that go
// under the same key. A lane whose call fails ends.
func (b *batch) together(call func(s *token.Session, mechanism uint, key token.Object, out, in []byte) error, blocks []ecb) {
	done := make([]bool, len(blocks))
	var group [2 * MaxBatch]int
	for i := range blocks {
		if done[i] || blocks[i].lane.err != nil {
			continue
		}
		first, size, n := &blocks[i], len(blocks[i].in), 0
		for j := i; j < len(blocks); j++ {
			if o := &blocks[j]; !done[j] && o.lane.err == nil && o.object == first.object && o.mechanism == first.mechanism && n < MaxBatch {
				done[j] = true
				group[n] = j
				n++
			}
		}
		erase.Do(func() {
			for k, j := range group[:n] {
				copy(b.memory.in[k*size:], blocks[j].in)
			}
		})
		err := call(b.session, first.mechanism, first.object, b.memory.out[:n*size], b.memory.in[:n*size])
		if err != nil {
			for _, j := range group[:n] {
				b.fail(blocks[j].lane, err)
			}
			continue
		}
		erase.Do(func() {
			for k, j := range group[:n] {
				copy(blocks[j].out, b.memory.out[k*size:(k+1)*size])
			}
		})
	}
}

func encrypt(s *token.Session, mechanism uint, key token.Object, out, in []byte) error {
	return s.Encrypt(mechanism, key, out, in)
}

func decrypt(s *token.Session, mechanism uint, key token.Object, out, in []byte) error {
	return s.Decrypt(mechanism, key, out, in)
}
