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
	encryptTDES, decryptTDES, encryptAES, decryptAES tally
	sign, unwrap, derive, destroy                    tally
}

// cipher is the line of a call with an ECB mechanism.
func (t *tallies) cipher(mechanism uint, encrypts bool, bytes int) {
	switch {
	case mechanism == pkcs11.CKM_AES_ECB && encrypts:
		t.encryptAES.add(bytes / 16)
	case mechanism == pkcs11.CKM_AES_ECB:
		t.decryptAES.add(bytes / 16)
	case encrypts:
		t.encryptTDES.add(bytes / 8)
	default:
		t.decryptTDES.add(bytes / 8)
	}
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
		{"C_Sign", &n.sign},
		{"C_UnwrapKey", &n.unwrap},
		{"C_DeriveKey", &n.derive},
		{"C_DestroyObject", &n.destroy},
	} {
		list = append(list, Calls{Name: line.name, Count: line.count.Load(), Blocks: line.blocks.Load()})
	}
	return list
}
