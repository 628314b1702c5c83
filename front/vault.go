package front

import (
	"errors"
	"time"

	"keyd/server"
	"keyd/vault/report"
)

// readAgain is how often a report that is just being written is read again.
const readAgain = 3

// inUse is what this front goes by, and how Vault and its certificates stand as far as the
// unlock process has said: the front itself never asks Vault.
func (f *front) inUse() server.InUse {
	use := f.current.get()
	if f.vault == nil {
		return use
	}
	for range readAgain {
		r, err := report.Read(f.vault)
		switch {
		case err == nil:
			use.Vault = r
			return use
		case errors.Is(err, report.ErrEmpty):
			return use
		}
		time.Sleep(time.Millisecond)
	}
	use.Vault = &report.Report{Problem: report.ErrTorn.Error()}
	return use
}
