package token

import (
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// Calls counts the calls that operations make, for the status: what the token spends
// its time with.
type Calls struct {
	Name   string // "C_Encrypt CKM_DES3_ECB"
	Count  uint64
	Blocks uint64 // that went through all of them; 0 where there are none
}

// tally is one line of the count.
type tally struct{ count, blocks atomic.Uint64 }

func (t *tally) add(blocks int) {
	t.count.Add(1)
	t.blocks.Add(uint64(blocks))
}

type tallies struct {
	encryptTDES, decryptTDES, encryptAES, decryptAES        tally
	encryptData, decryptData                                tally // CBC and CTR
	sign, unwrap, wrap, derive, generate, destroy, sessions tally
}

// cipher is the line of a call that enciphers or deciphers.
func (t *tallies) cipher(mechanism uint, encrypts bool, bytes int) {
	line, block := [2]*tally{&t.decryptData, &t.encryptData}, 16
	switch mechanism {
	case pkcs11.CKM_AES_ECB:
		line = [2]*tally{&t.decryptAES, &t.encryptAES}
	case pkcs11.CKM_DES3_ECB:
		line, block = [2]*tally{&t.decryptTDES, &t.encryptTDES}, 8
	case pkcs11.CKM_DES3_CBC:
		block = 8
	}
	way := 0
	if encrypts {
		way = 1
	}
	line[way].add((bytes + block - 1) / block)
}

// Calls returns the count since the token was opened.
func (t *Token) Calls() []Calls {
	n := &t.tallies
	var list []Calls
	for _, line := range []struct {
		name string
		*tally
	}{
		{"C_Encrypt CKM_DES3_ECB", &n.encryptTDES},
		{"C_Decrypt CKM_DES3_ECB", &n.decryptTDES},
		{"C_Encrypt CKM_AES_ECB", &n.encryptAES},
		{"C_Decrypt CKM_AES_ECB", &n.decryptAES},
		{"C_Encrypt CBC, CTR", &n.encryptData},
		{"C_Decrypt CBC, CTR", &n.decryptData},
		{"C_Sign", &n.sign},
		{"C_UnwrapKey", &n.unwrap},
		{"C_WrapKey", &n.wrap},
		{"C_DeriveKey", &n.derive},
		{"C_GenerateKey", &n.generate},
		{"C_DestroyObject", &n.destroy},
		{"C_OpenSession, C_CloseSession", &n.sessions},
	} {
		list = append(list, Calls{Name: line.name, Count: line.count.Load(), Blocks: line.blocks.Load()})
	}
	return list
}
