-- +goose Up
-- What terminals get keys from, which keys, and which they got. Times count microseconds from
-- 1970 in UTC; 0 is none.

-- The key set that says which keys a terminal gets; empty: none.
ALTER TABLE terminals ADD COLUMN key_set TEXT NOT NULL DEFAULT '' CHECK (length(key_set) <= 64);

-- Hosts: the name of a key pair, and its certificates, which are opaque.
CREATE TABLE key_hosts (
    name         TEXT    NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    key          TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 160),
    certificates BLOB    NOT NULL CHECK (length(certificates) BETWEEN 1 AND 16384),
    list         BLOB    NOT NULL CHECK (length(list) <= 16384),
    changed_at   INTEGER NOT NULL
) STRICT;

-- Key sets, whose content is opaque. No version ever changes.
CREATE TABLE key_sets (
    name       TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    version    INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    content    BLOB    NOT NULL CHECK (length(content) BETWEEN 1 AND 16384),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

-- The newest revocation list of each issuer, by the SHA-256 of the issuer's public key.
CREATE TABLE revocation_lists (
    issuer_key  BLOB    NOT NULL PRIMARY KEY CHECK (length(issuer_key) = 32),
    issuer      TEXT    NOT NULL CHECK (length(issuer) <= 1024),
    number      TEXT    NOT NULL CHECK (length(number) <= 64),
    entries     INTEGER NOT NULL CHECK (entries >= 0),
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    digest      BLOB    NOT NULL CHECK (length(digest) = 32),
    issuers     BLOB    NOT NULL CHECK (length(issuers) <= 16384),
    list        BLOB    NOT NULL CHECK (length(list) BETWEEN 1 AND 8388608),
    stored_at   INTEGER NOT NULL
) STRICT;

-- The injections of a terminal, numbered from 1. nonce is the digest of what makes a terminal's
-- request a new one, or empty: no two injections of a terminal have the same. The revision is the
-- number of changes.
CREATE TABLE injections (
    terminal        TEXT    NOT NULL CHECK (length(terminal) BETWEEN 1 AND 64),
    number          INTEGER NOT NULL CHECK (number >= 1),
    id              TEXT    NOT NULL UNIQUE CHECK (length(id) = 32),
    state           TEXT    NOT NULL CHECK (state IN ('BEGUN', 'PENDING', 'CONFIRMED', 'EXPIRED', 'SUPERSEDED', 'FAILED', 'ENDED')),
    method          TEXT    NOT NULL CHECK (length(method) BETWEEN 1 AND 32),
    key_set         TEXT    NOT NULL CHECK (length(key_set) BETWEEN 1 AND 64),
    key_set_version INTEGER NOT NULL CHECK (key_set_version BETWEEN 1 AND 4294967295),
    request         BLOB    NOT NULL CHECK (length(request) = 32),
    nonce           BLOB    NOT NULL CHECK (length(nonce) IN (0, 32)),
    keys            BLOB    NOT NULL CHECK (length(keys) <= 4096),
    revision        INTEGER NOT NULL CHECK (revision >= 1),
    answer          BLOB    NOT NULL CHECK (length(answer) <= 131072),
    key_blocks      BLOB    NOT NULL CHECK (length(key_blocks) <= 65536),
    record          BLOB    NOT NULL CHECK (length(record) <= 32768),
    receipt         BLOB    NOT NULL CHECK (length(receipt) <= 32768),
    statement       BLOB    NOT NULL CHECK (length(statement) <= 65536),
    failure         TEXT    NOT NULL CHECK (length(failure) <= 256),
    created_at      INTEGER NOT NULL,
    confirm_by      INTEGER NOT NULL,
    confirmed_at    INTEGER NOT NULL,
    PRIMARY KEY (terminal, number)
) STRICT;
CREATE UNIQUE INDEX injections_by_nonce ON injections (terminal, nonce) WHERE length(nonce) > 0;
CREATE INDEX injections_open ON injections (state, confirm_by) WHERE state IN ('BEGUN', 'PENDING');

-- Which terminal an initial key was allotted to. None is ever deleted.
CREATE TABLE initial_keys (
    bdk       TEXT    NOT NULL CHECK (length(bdk) BETWEEN 1 AND 128),
    id        BLOB    NOT NULL CHECK (length(id) IN (8, 10)),
    terminal  TEXT    NOT NULL CHECK (length(terminal) BETWEEN 1 AND 64),
    injection TEXT    NOT NULL CHECK (length(injection) = 32),
    confirmed INTEGER NOT NULL CHECK (confirmed IN (0, 1)),
    PRIMARY KEY (bdk, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX initial_keys_by_injection ON initial_keys (injection);

-- Where ranges of initial keys go on: no number below next is allotted by a range any more.
CREATE TABLE initial_key_ranges (
    bdk    TEXT    NOT NULL CHECK (length(bdk) BETWEEN 1 AND 128),
    prefix BLOB    NOT NULL CHECK (length(prefix) IN (4, 5)),
    first  INTEGER NOT NULL CHECK (first BETWEEN 0 AND 4294967295),
    next   INTEGER NOT NULL CHECK (next BETWEEN 0 AND 4294967296),
    PRIMARY KEY (bdk, prefix, first)
) STRICT, WITHOUT ROWID;

-- Sealed keys of terminals: master and receipt key of an injection, and the session keys.
CREATE TABLE terminal_keys (
    terminal   TEXT    NOT NULL CHECK (length(terminal) BETWEEN 1 AND 64),
    name       TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 16),
    version    INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    injection  TEXT    NOT NULL CHECK (length(injection) = 32),
    sealed     BLOB    NOT NULL CHECK (length(sealed) BETWEEN 1 AND 65536),
    not_after  INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (terminal, name, version, injection)
) STRICT;
