-- +goose Up
-- Void requests. Times count microseconds from 1970 in UTC; 0 is none.

-- content is what the columns beside it were taken from, opaque here. token is there from the
-- moment at which a void is authorised, never before. code is what is burnt, payload the code as
-- it was shown, slip the reference on paper or empty. request is the digest of who created the
-- void by which request. due_at is when somebody has to look at a live void again.
CREATE TABLE voids (
    id              TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    merchant        TEXT    NOT NULL CHECK (length(merchant) BETWEEN 1 AND 64),
    terminal        TEXT    NOT NULL CHECK (length(terminal) BETWEEN 1 AND 64),
    reference       TEXT    NOT NULL CHECK (length(reference) BETWEEN 1 AND 64),
    amount          INTEGER NOT NULL CHECK (amount >= 1),
    currency        INTEGER NOT NULL CHECK (currency BETWEEN 1 AND 999),
    fee             INTEGER NOT NULL CHECK (fee BETWEEN 0 AND amount),
    state           TEXT    NOT NULL CHECK (state IN ('CREATED', 'SCANNED', 'AUTHORIZED', 'CONFIRMED', 'DECLINED', 'EXPIRED', 'CANCELLED')),
    version         INTEGER NOT NULL CHECK (version >= 1),
    content         BLOB    NOT NULL CHECK (length(content) BETWEEN 1 AND 32768),
    token           TEXT    NOT NULL CHECK (length(token) <= 4096),
    code            BLOB    NOT NULL UNIQUE CHECK (length(code) = 16),
    payload         BLOB    NOT NULL CHECK (length(payload) = 98),
    slip            BLOB    NOT NULL CHECK (length(slip) IN (0, 30)),
    code_expires_at INTEGER NOT NULL,
    burnt_at        INTEGER NOT NULL,
    request         BLOB    NOT NULL UNIQUE CHECK (length(request) = 32),
    due_at          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL,
    CHECK (state NOT IN ('CREATED', 'SCANNED', 'CANCELLED') OR length(token) = 0),
    CHECK (state NOT IN ('AUTHORIZED', 'CONFIRMED') OR length(token) > 0),
    CHECK (state NOT IN ('SCANNED', 'AUTHORIZED', 'CONFIRMED') OR burnt_at > 0)
) STRICT;

-- One live void for each payment.
CREATE UNIQUE INDEX voids_live ON voids (merchant, reference) WHERE state IN ('CREATED', 'SCANNED', 'AUTHORIZED');
CREATE INDEX voids_of_merchant ON voids (merchant, created_at, id);
CREATE INDEX voids_due ON voids (due_at) WHERE state IN ('CREATED', 'SCANNED', 'AUTHORIZED');
