package pinobjects

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
)

// Tools are what the engine has in a token for as long as it runs. They are safe for concurrent use.
type Tools struct {
	token *token.Token

	mu         sync.Mutex
	generation uint64 // of the token's objects, of which these are
	current    *tools
}

// New returns the tools for a token. They are made when they are used first, and anew after the token
// has lost its objects.
func New(t *token.Token) *Tools { return &Tools{token: t} }

// tools are those of one generation of the token's objects.
type tools struct {
	transit token.Object // wraps what is looked at
	cipher  cipher.Block // the same key
	fills   token.Object // wraps the fill of format 3, under a key that nobody knows any more
	known   fills
}

// fills are the ciphertexts of all fill that format 3 may have, by its length in digits. The key that made
// them is forgotten, so that they tell whether something is fill, and not which.
type fills struct {
	two, four map[[aes.BlockSize]byte]struct{}
}

// of returns the tools of the present generation.
func (t *Tools) of(s *token.Session) (*tools, error) {
	generation := t.token.Generation()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && t.generation == generation {
		return t.current, nil
	}
	fresh := new(tools)
	var err error
	if fresh.transit, fresh.cipher, err = t.agree(s); err != nil {
		return nil, err
	}
	var forgotten cipher.Block
	if fresh.fills, forgotten, err = t.agree(s); err != nil {
		return nil, errors.Join(err, t.token.Discard(fresh.transit))
	}
	erase.Do(func() { fresh.known = fillsUnder(forgotten) })
	t.current, t.generation = fresh, generation
	return fresh, nil
}

// agree makes an AES key that the token and this process have and no one who sees the calls. What is
// forgotten of it is wiped (package erase).
func (t *Tools) agree(s *token.Session) (object token.Object, block cipher.Block, err error) {
	var own *ecdh.PrivateKey
	erase.Do(func() { own, err = ecdh.P256().GenerateKey(rand.Reader) })
	if err != nil {
		return 0, nil, err
	}
	object, peer, err := s.Agree(own.PublicKey())
	if err != nil {
		return 0, nil, err
	}
	erase.Do(func() {
		var value []byte
		if value, err = own.ECDH(peer); err != nil {
			return
		}
		defer clear(value)
		block, err = aes.NewCipher(value)
	})
	if err != nil {
		return 0, nil, errors.Join(err, t.token.Discard(object))
	}
	return object, block, nil
}

// fillsUnder enciphers every fill of two and of four digits from A to F.
func fillsUnder(key cipher.Block) fills {
	f := fills{make(map[[aes.BlockSize]byte]struct{}, 36), make(map[[aes.BlockSize]byte]struct{}, 1296)}
	for i := range 1296 {
		var block [aes.BlockSize]byte
		for place, rest := 3, i; place >= 0; place, rest = place-1, rest/6 {
			put(block[:], place, byte(0xA+rest%6))
		}
		key.Encrypt(block[:], block[:])
		f.four[block] = struct{}{}
		if i < 36 {
			block = [aes.BlockSize]byte{byte(0xA+i/6)<<4 | byte(0xA+i%6)}
			key.Encrypt(block[:], block[:])
			f.two[block] = struct{}{}
		}
	}
	return f
}

// look wraps up to a block's length of a secret, with zeros behind it.
func look(s *token.Session, key, secret token.Object) (seen [aes.BlockSize]byte, err error) {
	err = s.WrapSecret(pkcs11.CKM_AES_ECB, key, secret, seen[:])
	return seen, err
}

// is reports whether what the token wrapped under the transit key is this, with zeros behind it.
func (t *tools) is(seen [aes.BlockSize]byte, expected []byte) bool {
	var block [aes.BlockSize]byte
	copy(block[:], expected)
	t.cipher.Encrypt(block[:], block[:])
	return block == seen
}

// put writes a digit, and at reads it.
func put(block []byte, place int, digit byte) {
	shift := 4 * (1 - place%2)
	block[place/2] = block[place/2]&^(0xF<<shift) | digit<<shift
}

func at(block []byte, place int) byte { return block[place/2] >> (4 * (1 - place%2)) & 0xF }
