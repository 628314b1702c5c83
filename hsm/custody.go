package hsm

// OperationCustody says how an operation is carried out with the token at hand.
type OperationCustody struct {
	Operation string // "PIN translation, ISO formats 0 and 3"
	Custody   Custody
	Why       string // what the token lacks, or what no mechanism does; empty where it is [InToken]
}
