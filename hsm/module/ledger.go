package module

import (
	"os"

	"keyd/hsm/module/internal/ledger"
)

// CreateLedger opens the file in which the modules of a host remember which device an initial
// key belongs to, and makes it if it is missing. The supervisor calls it and hands the
// descriptor on.
func CreateLedger(path string) (*os.File, error) {
	return patiently(func() (*os.File, error) { return ledger.Create(path) })
}

// CheckLedger says what is wrong with an existing file.
func CheckLedger(path string) error { return ledger.Check(path) }
