-- +goose Up
-- What officers signed, and what came of it. Both are opaque; the record is empty until the
-- ceremony is completed. The revision counts the changes of a row. Times count microseconds
-- from 1970 in UTC.
CREATE TABLE ceremonies (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    kind       TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    subject    TEXT    NOT NULL CHECK (length(subject) <= 256),
    state      TEXT    NOT NULL CHECK (state IN ('OPEN', 'COMPLETED', 'ABORTED', 'EXPIRED')),
    revision   INTEGER NOT NULL CHECK (revision >= 0),
    papers     BLOB    NOT NULL CHECK (length(papers) <= 262144),
    record     BLOB    NOT NULL CHECK (length(record) <= 524288),
    opened_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX ceremonies_by_time ON ceremonies (opened_at, id);
CREATE INDEX ceremonies_by_state ON ceremonies (state, opened_at, id);

-- At most two rows: the epoch that is in force, and the one that is proposed to follow it,
-- with what changes when it does. The sealed epoch is opaque. ceremony is the one that the
-- change is about, or empty: it stays as it is while the proposal stands.
CREATE TABLE epochs (
    version  INTEGER NOT NULL PRIMARY KEY CHECK (version >= 1),
    state    TEXT    NOT NULL UNIQUE CHECK (state IN ('CURRENT', 'PROPOSED')),
    sealed   BLOB    NOT NULL CHECK (length(sealed) BETWEEN 1 AND 1048576),
    change   BLOB    NOT NULL CHECK (length(change) <= 4194304),
    ceremony TEXT    NOT NULL CHECK (length(ceremony) IN (0, 32))
) STRICT;

-- Other names of keys. None is the name of a key.
CREATE TABLE aliases (
    alias  TEXT NOT NULL PRIMARY KEY CHECK (length(alias) BETWEEN 1 AND 128),
    target TEXT NOT NULL CHECK (length(target) BETWEEN 1 AND 128)
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_target ON aliases (target, alias);

-- What operators note about keys, whatever their version.
CREATE TABLE key_tags (
    name  TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    tag   TEXT NOT NULL CHECK (length(tag) BETWEEN 1 AND 128),
    value TEXT NOT NULL CHECK (length(value) <= 256),
    PRIMARY KEY (name, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_tags_by_tag ON key_tags (tag, name);
CREATE INDEX key_tags_by_value ON key_tags (tag, value, name);

-- How often a version of a key was used, and when last, in microseconds from 1970 in UTC.
CREATE TABLE key_usage (
    name      TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    version   INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    uses      INTEGER NOT NULL CHECK (uses >= 0),
    last_used INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
