-- +goose Up
-- The terminals, none of which is ever deleted. The certificates are opaque: that of the
-- device, and its issuers. public_key is the SHA-256 of the device's public key, and empty
-- where no certificate is known. replaced_by is the terminal that took its place, or empty.
-- The revision is the number of the newest event. Times count microseconds from 1970 in UTC.
CREATE TABLE terminals (
    id            TEXT    NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    owner         TEXT    NOT NULL CHECK (length(owner) BETWEEN 1 AND 64),
    model         TEXT    NOT NULL CHECK (length(model) BETWEEN 1 AND 64),
    serial        TEXT    NOT NULL CHECK (length(serial) BETWEEN 1 AND 64),
    site          TEXT    NOT NULL CHECK (length(site) <= 128),
    state         TEXT    NOT NULL CHECK (state IN ('REGISTERED', 'SUSPENDED', 'RETIRED', 'REPLACED')),
    certificates  BLOB    NOT NULL CHECK (length(certificates) <= 16384),
    public_key    BLOB    NOT NULL CHECK (length(public_key) IN (0, 32)),
    replaced_by   TEXT    NOT NULL CHECK (length(replaced_by) <= 64),
    revision      INTEGER NOT NULL CHECK (revision >= 1),
    registered_at INTEGER NOT NULL,
    changed_at    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX terminals_by_key ON terminals (public_key) WHERE length(public_key) > 0;
CREATE INDEX terminals_by_owner ON terminals (owner, id, model, state);
CREATE INDEX terminals_by_model ON terminals (model, id);
CREATE INDEX terminals_by_model_and_state ON terminals (model, state, id);
CREATE INDEX terminals_by_state ON terminals (state, id);

-- What happened to a terminal, numbered from 1 without a gap.
CREATE TABLE terminal_events (
    terminal TEXT    NOT NULL CHECK (length(terminal) BETWEEN 1 AND 64),
    number   INTEGER NOT NULL CHECK (number >= 1),
    kind     TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    actor    TEXT    NOT NULL CHECK (length(actor) <= 2048),
    detail   TEXT    NOT NULL CHECK (length(detail) <= 512),
    at       INTEGER NOT NULL,
    PRIMARY KEY (terminal, number)
) STRICT, WITHOUT ROWID;
