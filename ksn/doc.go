// Package ksn accepts every key serial number once. A DUKPT request whose counter was
// used before, or is older than one that was, is refused, also after a crash, so that
// nobody can have a recorded PIN block or message processed a second time.
//
// Rules:
//   - What is counted is a sequence: what a KSN is used for (its [Class]), the value of
//     the base derivation key and the initial key ID. Its counter only rises, and by at
//     most [Options].MaxJump.
//   - The order is: [Ledger.Look], the module's operation, [Ledger.Accept], the answer. A
//     request that the module refused moves nothing.
//   - Accept returns after the use is durable. All uses of a request are accepted, or
//     none.
//   - An identical retry of the request that was accepted last gets the stored answer,
//     for at least [Options].RetryWindow and not much longer than twice that. Any other
//     request with a counter that is not above the last is a replay.
//   - An answer is stored enciphered under a key that follows from a receipt key and
//     the whole request, and the receipt key is deleted after two windows: PCI DSS 3.3.3
//     lets no PIN block outlive its transaction. Neither the database nor the request
//     alone gives an answer away. Of copies that a database makes of itself (archives of a
//     write-ahead log) the key is not deleted: whoever has one and the whole request, with
//     its PIN block, can read the answer.
//   - When the store fails, uses are refused and nothing is believed that was in
//     memory: what was committed is read again first. When the store has forgotten what
//     it had acknowledged, uses are refused until the process is started again.
//   - Several processes share one database, and any of them takes any terminal's KSN: a
//     commit first takes in what the others have appended to the journal, and judges
//     against it, in the transaction that appends its own row.
//
// How it is fast: the uses that are waiting are judged in memory, written as one row of
// a journal in one transaction, and answered. The journal is folded into the states of
// the sequences in the background, in sizable portions, by each process in its turn: what
// is folded already is not written again. A process that finds rows gone that it has not
// read begins again with the states and the whole journal.
//
// Clocks: those of the processes on one database may differ by a quarter of the retry
// window. Further apart, retries of each other's requests are refused too early.
//
// Units: counters are 21 bits (TDES) or 32 bits (AES); times are kept to the
// microsecond; answers have at most [MaxAnswer] bytes and requests [MaxRequest].
//
// Only the front uses this package.
package ksn
