-- +goose Up
-- Batches of accepted counters, each one row, numbered without a gap. The newest row is
-- never deleted: the next number follows from it.
CREATE TABLE counter_journal (
    number INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1),
    batch  BLOB    NOT NULL CHECK (length(batch) BETWEEN 1 AND 1048576)
) STRICT;

-- The last accepted counter of each sequence, as far as the journal was folded into it.
-- The receipt is opaque, and empty where it can no longer be read. accepted_at counts
-- microseconds from 1970 in UTC.
CREATE TABLE counters (
    sequence    BLOB    NOT NULL PRIMARY KEY CHECK (length(sequence) BETWEEN 1 AND 64),
    counter     INTEGER NOT NULL CHECK (counter BETWEEN 0 AND 4294967295),
    receipt     BLOB    NOT NULL CHECK (length(receipt) <= 256),
    accepted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys without which a receipt cannot be read. To delete one shreds all receipts
-- under it. created_at counts microseconds from 1970 in UTC.
CREATE TABLE receipt_keys (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id >= 1),
    key        BLOB    NOT NULL CHECK (length(key) = 32),
    created_at INTEGER NOT NULL
) STRICT;
