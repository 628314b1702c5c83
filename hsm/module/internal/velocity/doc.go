// Package velocity counts how often a subject is tried, and refuses what is beyond its
// limits: so many in any minute, in any hour, in any day. The modules of a host share
// one table, a memory-mapped file which the front never gets. It survives the death of
// any process at any instruction, and begins conservatively after a loss of power.
//
// # Who calls what
//
//	supervisor   Create → hands the descriptor to the modules → MarkClean when all have ended
//	module       Open → Count, Redeem → Close
//	operator     Attach → Open → Permit → Close, in a process of its own
//
// # Rules
//
//   - A subject is what a try is aimed at: the verification key and the account data
//     that enters the comparison, for one. What is guessed, the PIN, must not be part
//     of it: every guess would be another subject.
//   - The file holds no subject, only 48 bits of an HMAC-SHA-256 of it (64 in a permit)
//     under a key that modules have and nobody else has. Verifications and translations of one
//     subject are two subjects.
//   - A count is made before the try. What is refused is not counted, so that hammering
//     does not prolong a refusal; except for tries that race for the last place.
//   - What is not known is estimated too high, never too low: a subject that is
//     crowded out of the table comes back with counts that are at least its own.
//   - Nothing in the file is a lock. Every step is one atomic operation, which leaves a
//     table that any other process can go on with.
//
// # Time
//
// The unit is the tick, 10 seconds. Time is the time since the machine started, which
// no setting of the clock changes, on top of a base that the first module after the
// start takes from the clock and from the latest time in the file, whichever is later.
// So the table's time never goes back and never jumps; where the clock was wrong at the
// start, it differs from it, and nothing but differences matters.
//
// A window counts the present bucket and the six before it, of 10 seconds, 10 minutes
// and 4 hours: 60 to 70 seconds, 60 to 70 minutes, 24 to 28 hours.
//
// # Layout
//
// A header page is followed by sets of eight places, 1 KiB each. A subject belongs to
// one set, and has at most one place in it. Half a set is a sector of 512 bytes, the
// least that a disk writes as a whole, and stands for itself: four places and a
// remainder. The remainder has, bucket by bucket, the highest count of all subjects
// that lost their place in this sector; who takes a place begins with both remainders
// of the set. (Counts alone would not do: a subject that inherits the counts of the
// smallest place, as the space-saving algorithm has it, may inherit too little once
// others' counts have grown old.)
//
// How full a table may be is a matter of false refusals only. With a quarter as many
// subjects in a day as entries, one set in 4,000 is short of places; with half as many,
// one in 50.
//
// # Loss of power
//
// One of the modules writes the table to the disk every 30 seconds, and nothing is
// allowed when that has not been done for a minute. So at most a minute's counts are
// lost. A module that finds the mark of another boot, and no mark of a clean end, notes
// the loss; each loss then counts for every subject as many tries as the smallest of
// its limits, at the last moment at which a lost count can have been made. A permit
// that was not redeemed is lost, too.
package velocity
