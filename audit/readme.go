package audit

import (
	"fmt"
	"time"

	"keyd/checkpoint"
)

// Beginning writes the first moment of a period.
func Beginning(from time.Time) string {
	if from.IsZero() {
		return "the beginning of the log"
	}
	return from.Format(time.RFC3339)
}

// readme is the sheet that goes with an export.
func (m *Manifest) readme(c *checkpoint.Checkpoint) string {
	left := ""
	if m.LeftOut > 0 {
		left = fmt.Sprintf("\n%d newer entries of the period are not in it: no checkpoint covered them yet. A later export\nhas them.\n", m.LeftOut)
	}
	return fmt.Sprintf(`AUDIT LOG OF A KEYD: EXPORT

Log       %s
Period    %s to %s (the latter not included), UTC
Entries   %d to %d of %d, all of them: the log numbers its entries without a gap
%s
WHAT IS HERE

entries.csv     the entries as a table, for reading (UTF-8, with a byte order mark)
entries.jsonl   the same entries as the log has them, one JSON object a line
checkpoint.txt  the state of the whole log, signed by the hardware security module
module.pem      the public key of that signature
manifest.json   digests of these files and of the log's own, and the proof that ties the
                entries to the checkpoint

HOW TO VERIFY IT

keyd audit verify --export DIRECTORY --identity KEY.pem, on any machine, without the service.
KEY.pem is the module's public key from somebody other than who made this export: the
security officers have confirmed its fingerprint in their ceremonies, and "keyd officer
roster" shows it to them. Without --identity, module.pem is used and its fingerprint printed:
compare that with the officers'.

What a good result says: the module signed a log that has exactly these entries, in this
order, at these places. Nobody, the operator included, has changed, removed, inserted or
reordered one since. What it does not say: that the front wrote down truthfully what it did.
The format needs nothing of keyd's: hashes as in RFC 6962 over the lines without line feed,
checkpoint as in c2sp.org/tlog-checkpoint, signature of type 0x02 as in c2sp.org/signed-note.

WHAT THE COLUMNS SAY, AND FOR WHICH REQUIREMENT OF PCI DSS v4.0.1

column      what                                                     requirement
seq         number in the log, without a gap                         10.3.2, 10.3.4 (change detection)
time_utc    when it was decided, by the machine's clock              10.2.2 date and time; 10.6 is about that clock
identity    who: the SPIFFE ID of the client certificate             10.2.2 user identification, origination
event       what was asked, SERVICE/METHOD; "AuditLog/..." and       10.2.2 type of event, system component
            entries without a method are keyd's own: start, changed
            policy, loss of power, changes of the log itself
outcome     allowed (and done), denied (identity or policy),         10.2.2 success and failure; 10.2.1.4
            failed (and why), event (of keyd itself)
reason      of a refusal, from the documented table                  10.2.2 success and failure
rule        the rule of the policy that allowed it                   10.2.1.2, 10.2.1.5
resources   the keys: name and version; "usage", what a key is for   10.2.2 affected resource
            (a code of ANSI X9.143: P0 enciphers PINs); "kcv", its
            check value, which tells keys apart and not what they
            are; "ksn", the key serial number of the terminal's
            transaction
account     the last four digits of the card number, no more         3.4.1
custody     where clear values existed. CUSTODY_TOKEN: nowhere but
            in the hardware security module. CUSTODY_MODULE: for
            microseconds also in the memory of the process beside it
journal     number under which the database keeps the key serial
            number that the request used up
request_id  of the caller's answer: finds one request in all logs    10.2.2 origination
detail      keyd's own sentence; of a ceremony, its officers         10.2.1.2, 10.2.1.5

10.2.1.3 (access to the audit log): AuditService and start of the log, in column event.
10.2.1.6 (start, stop, pause of the log): entries of AuditLog and "front started".
10.2.1.7 (system-level objects): CeremonyService and KeyService.
10.3.1 (who may read): files of mode 0600 of the front's own user, and the policy.
10.3.2, 10.3.4 (no changes): the tree and its checkpoints; this export proves it for its part.
10.3.3 (kept elsewhere): the operator's; checkpoints noted elsewhere show a log that was cut.
10.5.1 (12 months): the operator's; keyd deletes nothing.

No PIN, PIN block, key or whole card number is in an audit log of keyd.
A cell that begins like a formula has an apostrophe in front of it, in the table only.
`, m.Origin, Beginning(m.From), m.Until.Format(time.RFC3339), m.First, m.Last, c.Size, left)
}
