-- +goose Up
CREATE TABLE terminals (
    id            text   COLLATE "C" NOT NULL PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 64),
    owner         text   COLLATE "C" NOT NULL CHECK (octet_length(owner) BETWEEN 1 AND 64),
    model         text   COLLATE "C" NOT NULL CHECK (octet_length(model) BETWEEN 1 AND 64),
    serial        text   COLLATE "C" NOT NULL CHECK (octet_length(serial) BETWEEN 1 AND 64),
    site          text   NOT NULL CHECK (octet_length(site) <= 128),
    state         text   COLLATE "C" NOT NULL CHECK (state IN ('REGISTERED', 'SUSPENDED', 'RETIRED', 'REPLACED')),
    certificates  bytea  NOT NULL CHECK (octet_length(certificates) <= 16384),
    public_key    bytea  NOT NULL CHECK (octet_length(public_key) IN (0, 32)),
    replaced_by   text   COLLATE "C" NOT NULL CHECK (octet_length(replaced_by) <= 64),
    revision      bigint NOT NULL CHECK (revision >= 1),
    registered_at bigint NOT NULL,
    changed_at    bigint NOT NULL
);
CREATE UNIQUE INDEX terminals_by_key ON terminals (public_key) WHERE length(public_key) > 0;
CREATE INDEX terminals_by_owner ON terminals (owner, id, model, state);
CREATE INDEX terminals_by_model ON terminals (model, id);
CREATE INDEX terminals_by_model_and_state ON terminals (model, state, id);
CREATE INDEX terminals_by_state ON terminals (state, id);

CREATE TABLE terminal_events (
    terminal text   COLLATE "C" NOT NULL CHECK (octet_length(terminal) BETWEEN 1 AND 64),
    number   bigint NOT NULL CHECK (number >= 1),
    kind     text   COLLATE "C" NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 64),
    actor    text   NOT NULL CHECK (octet_length(actor) <= 2048),
    detail   text   NOT NULL CHECK (octet_length(detail) <= 512),
    at       bigint NOT NULL,
    PRIMARY KEY (terminal, number)
);
