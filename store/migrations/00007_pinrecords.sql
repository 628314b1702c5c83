-- +goose Up
-- PIN records: whose PIN is kept, sealed, and how many tries are left for it. Times count
-- microseconds from 1970 in UTC; 0 is none.

-- subject is the digest of kind, merchant, terminal and name. approval is the digest of the
-- approval by which the version was begun, or empty. The series is raised whenever all tries are
-- there again. events is the number of events, revision that of changes, tries among them.
CREATE TABLE pin_records (
    subject         BLOB    NOT NULL PRIMARY KEY CHECK (length(subject) = 32),
    kind            TEXT    NOT NULL CHECK (kind IN ('SUPERVISOR', 'CARDHOLDER')),
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
CREATE INDEX pin_records_by_merchant ON pin_records (merchant, subject);

-- What happened to PIN records, numbered from 1 for each. request is the digest of the approval
-- that an event used up, or empty: none is used up twice.
CREATE TABLE pin_events (
    subject BLOB    NOT NULL CHECK (length(subject) = 32),
    number  INTEGER NOT NULL CHECK (number >= 1),
    kind    TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    actor   TEXT    NOT NULL CHECK (length(actor) <= 2048),
    detail  TEXT    NOT NULL CHECK (length(detail) <= 512),
    request BLOB    NOT NULL CHECK (length(request) IN (0, 32)),
    at      INTEGER NOT NULL,
    PRIMARY KEY (subject, number)
) STRICT;
CREATE UNIQUE INDEX pin_events_by_request ON pin_events (request) WHERE length(request) > 0;

-- How often a PIN was tried for which nothing is compared. It is one row, which makes such a try
-- cost what any other does.
CREATE TABLE pin_misses (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    misses INTEGER NOT NULL CHECK (misses >= 0)
) STRICT;
INSERT INTO pin_misses (id, misses) VALUES (1, 0);
