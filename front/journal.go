package front

import (
	"context"
	"fmt"

	"keyd/audit"
)

// checkJournal refuses a database that lacks key serial numbers which the audit log says were
// accepted: an older copy was put back, or a standby took over that had not all of them. One
// that was restored from a backup on purpose is noted in the log; it is used when officers have
// accepted it.
func (f *front) checkJournal() error {
	restored, err := f.database.Restored(context.Background())
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if restored {
		return f.log.Append(context.Background(), audit.Entry{
			Method: audit.MethodRestored, Decision: audit.Event, Detail: fmt.Sprintf("the database was restored from a backup; its journal ends with row %d", f.serials.Newest()),
		})
	}
	recorded, err := audit.LastJournal(f.log.Directory())
	if err != nil {
		return err
	}
	if newest := f.serials.Newest(); newest < recorded {
		return fmt.Errorf("database: it ends with row %d of the journal of key serial numbers, and the audit log has row %d: an older copy was put back, or a standby took over that had not everything; "+
			"bring the newer one back, or restore a backup with keyd restore, so that nothing is accepted a second time", newest, recorded)
	}
	return nil
}
