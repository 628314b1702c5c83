-- +goose Up
-- Phones: PIN records are of passkeys as well, what is pending is found by the begin of its approval,
-- and a void keeps when its payment was made. SQLite changes no check of a table that is there.

CREATE TABLE pin_records_9 (
    subject         BLOB    NOT NULL PRIMARY KEY CHECK (length(subject) = 32),
    kind            TEXT    NOT NULL CHECK (kind IN ('SUPERVISOR', 'CARDHOLDER', 'PASSKEY')),
    merchant        TEXT    NOT NULL CHECK (length(merchant) <= 64),
    terminal        TEXT    NOT NULL CHECK (length(terminal) <= 64),
    name            TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    version         INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    state           TEXT    NOT NULL CHECK (state IN ('ENROL_PENDING', 'ACTIVE', 'BLOCKED', 'RESET_PENDING', 'REVOKED')),
    tries           INTEGER NOT NULL CHECK (tries BETWEEN 1 AND 15),
    tries_left      INTEGER NOT NULL CHECK (tries_left BETWEEN 0 AND tries),
    series          INTEGER NOT NULL CHECK (series >= 0),
    record          BLOB    NOT NULL CHECK (length(record) <= 4096),
    approval        BLOB    NOT NULL CHECK (length(approval) IN (0, 32)),
    pending         BLOB    NOT NULL CHECK (length(pending) <= 4096),
    code            BLOB    NOT NULL CHECK (length(code) <= 512),
    code_tries_left INTEGER NOT NULL CHECK (code_tries_left BETWEEN 0 AND 15),
    code_expires_at INTEGER NOT NULL CHECK (code_expires_at >= 0),
    not_after       INTEGER NOT NULL CHECK (not_after >= 0),
    events          INTEGER NOT NULL CHECK (events >= 1),
    revision        INTEGER NOT NULL CHECK (revision >= 1),
    created_at      INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL
) STRICT;
INSERT INTO pin_records_9 (subject, kind, merchant, terminal, name, version, state, tries, tries_left, series, record, approval, pending, code, code_tries_left, code_expires_at, not_after, events, revision, created_at, changed_at)
    SELECT subject, kind, merchant, terminal, name, version, state, tries, tries_left, series, record, approval, pending, code, code_tries_left, code_expires_at, not_after, events, revision, created_at, changed_at FROM pin_records;
DROP TABLE pin_records;
ALTER TABLE pin_records_9 RENAME TO pin_records;
CREATE INDEX pin_records_by_merchant ON pin_records (merchant, subject);
CREATE INDEX pin_records_by_approval ON pin_records (approval) WHERE length(approval) > 0;

-- paid_at is 0 of voids from before.
ALTER TABLE voids ADD COLUMN paid_at INTEGER NOT NULL DEFAULT 0;
