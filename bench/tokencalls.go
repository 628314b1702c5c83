package main

import (
	"strings"

	keydv1 "keyd/api/keyd/v1"
)

// tokenCalls is what an operation asks of the token, in calls an operation. Blocks are
// all that went through the ciphers' calls: more than one to a call where keyd has
// carried operations out together.
type tokenCalls struct {
	TDES       float64 `json:"des3_ecb"`
	TDESBlocks float64 `json:"des3_ecb_blocks"`
	AES        float64 `json:"aes_ecb"`
	Derive     float64 `json:"aes_derive_and_destroy"`
}

// naive returns the calls of an operation made one by one and with nothing kept from
// one operation to the next: what a program without keyd would ask of the token. The
// derivations of AES DUKPT depend on the counters: it is the mean over the requests made.
func naive(w *workload) tokenCalls {
	switch w.operation {
	case tdesToZone: // the halves of the initial key, and the block on its way out
		return tokenCalls{TDES: 3, TDESBlocks: 3}
	case aesToZone: // the two layers of format 4, and the block on its way out
		return tokenCalls{TDES: 1, TDESBlocks: 1, AES: 2, Derive: w.meanSteps()}
	case tdesVerify: // the halves of the initial key, and the PVV
		return tokenCalls{TDES: 3, TDESBlocks: 3}
	case aesVerify:
		return tokenCalls{TDES: 1, TDESBlocks: 1, AES: 2, Derive: w.meanSteps()}
	case zoneToZone, verifyPVV: // the block on its way in; the block out, or the PVV
		return tokenCalls{TDES: 2, TDESBlocks: 2}
	}
	return tokenCalls{}
}

// callsIn adds up what the modules have called so far.
func callsIn(s *keydv1.GetStatusResponse) (c tokenCalls) {
	for _, t := range s.GetTokens() {
		for _, call := range t.GetCalls() {
			n := float64(call.GetCount())
			switch {
			case strings.HasSuffix(call.GetName(), "CKM_DES3_ECB"):
				c.TDES += n
				c.TDESBlocks += float64(call.GetBlocks())
			case strings.HasSuffix(call.GetName(), "CKM_AES_ECB"):
				c.AES += n
			case call.GetName() == "C_DeriveKey":
				c.Derive += n
			}
		}
	}
	return c
}

// since returns the calls after an earlier state, for each of some operations.
func (c tokenCalls) since(before tokenCalls, operations float64) tokenCalls {
	return tokenCalls{
		TDES: (c.TDES - before.TDES) / operations, TDESBlocks: (c.TDESBlocks - before.TDESBlocks) / operations,
		AES: (c.AES - before.AES) / operations, Derive: (c.Derive - before.Derive) / operations,
	}
}

// rate is how often per second the bare token can make the calls. A call with several
// blocks costs what one with one block costs, and for each block more a share of what 64
// cost more.
func (c tokenCosts) rate(n tokenCalls) float64 {
	block := (c.TDES64 - c.TDES1) / 63
	us := n.TDES*c.TDES1 + (n.TDESBlocks-n.TDES)*block + n.AES*c.AES1 + n.Derive*c.Derive
	if us == 0 {
		return 0
	}
	return 1e6 / us
}
