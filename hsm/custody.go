package hsm

// OperationCustody says how a kind of operation is carried out with the token at hand.
type OperationCustody struct {
	Operation string // "PIN translation, ISO formats 0 and 3"
	Custody   Custody
	Why       string // what the token lacks, or what no mechanism does; empty where it is [InToken]
}

// CustodyOf makes one of a custody, and of why it is not [InToken] if it is not.
func CustodyOf(operation string, c Custody, why string) OperationCustody {
	if c == InToken {
		why = ""
	}
	return OperationCustody{Operation: operation, Custody: c, Why: why}
}
