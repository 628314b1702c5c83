package macops

import "keyd/hsm"

// whyInModule is why a working key of TDES DUKPT is in memory, with any token.
const whyInModule = "no PKCS#11 mechanism derives a working key of TDES DUKPT"

// custodyOf is where a key is while it makes a MAC: a working key of a BDK, or the key itself.
// A message is no secret.
func custodyOf(isBDK bool, algorithm string) hsm.Custody {
	if isBDK && algorithm == "T" {
		return hsm.InModule
	}
	return hsm.InToken
}

func (m *operation) custody() hsm.Custody { return custodyOf(m.isBDK, m.key.Header.Algorithm) }

func (m *operation) inMemory() bool { return m.custody() == hsm.InModule }

// Custodies says which MACs are made in the token.
func (e *Engine) Custodies() []hsm.OperationCustody {
	return []hsm.OperationCustody{
		hsm.CustodyOf("MACs with static keys", custodyOf(false, ""), whyInModule),
		hsm.CustodyOf("MACs under AES DUKPT", custodyOf(true, "A"), whyInModule),
		hsm.CustodyOf("MACs under TDES DUKPT", custodyOf(true, "T"), whyInModule),
	}
}
