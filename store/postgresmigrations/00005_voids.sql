-- +goose Up

CREATE TABLE voids (
    id              text COLLATE "C" NOT NULL PRIMARY KEY CHECK (octet_length(id) = 32),
    merchant        text COLLATE "C" NOT NULL CHECK (octet_length(merchant) BETWEEN 1 AND 64),
    terminal        text COLLATE "C" NOT NULL CHECK (octet_length(terminal) BETWEEN 1 AND 64),
    reference       text COLLATE "C" NOT NULL CHECK (octet_length(reference) BETWEEN 1 AND 64),
    amount          bigint           NOT NULL CHECK (amount >= 1),
    currency        bigint           NOT NULL CHECK (currency BETWEEN 1 AND 999),
    fee             bigint           NOT NULL CHECK (fee BETWEEN 0 AND amount),
    state           text COLLATE "C" NOT NULL CHECK (state IN ('CREATED', 'SCANNED', 'AUTHORIZED', 'CONFIRMED', 'DECLINED', 'EXPIRED', 'CANCELLED')),
    version         bigint           NOT NULL CHECK (version >= 1),
    content         bytea            NOT NULL CHECK (octet_length(content) BETWEEN 1 AND 32768),
    token           text COLLATE "C" NOT NULL CHECK (octet_length(token) <= 4096),
    code            bytea            NOT NULL UNIQUE CHECK (octet_length(code) = 16),
    payload         bytea            NOT NULL CHECK (octet_length(payload) = 98),
    slip            bytea            NOT NULL CHECK (octet_length(slip) IN (0, 30)),
    code_expires_at bigint           NOT NULL,
    burnt_at        bigint           NOT NULL,
    request         bytea            NOT NULL UNIQUE CHECK (octet_length(request) = 32),
    due_at          bigint           NOT NULL,
    created_at      bigint           NOT NULL,
    changed_at      bigint           NOT NULL,
    CHECK (state NOT IN ('CREATED', 'SCANNED', 'CANCELLED') OR octet_length(token) = 0),
    CHECK (state NOT IN ('AUTHORIZED', 'CONFIRMED') OR octet_length(token) > 0),
    CHECK (state NOT IN ('SCANNED', 'AUTHORIZED', 'CONFIRMED') OR burnt_at > 0)
);

CREATE UNIQUE INDEX voids_live ON voids (merchant, reference) WHERE state IN ('CREATED', 'SCANNED', 'AUTHORIZED');
CREATE INDEX voids_of_merchant ON voids (merchant, created_at, id);
CREATE INDEX voids_due ON voids (due_at) WHERE state IN ('CREATED', 'SCANNED', 'AUTHORIZED');
