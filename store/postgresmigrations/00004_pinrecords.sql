-- +goose Up

CREATE TABLE pin_records (
    subject         bytea            NOT NULL PRIMARY KEY CHECK (octet_length(subject) = 32),
    kind            text COLLATE "C" NOT NULL CHECK (kind IN ('SUPERVISOR', 'CARDHOLDER')),
    merchant        text COLLATE "C" NOT NULL CHECK (octet_length(merchant) <= 64),
    terminal        text COLLATE "C" NOT NULL CHECK (octet_length(terminal) <= 64),
    name            text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    version         bigint           NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    state           text COLLATE "C" NOT NULL CHECK (state IN ('ENROL_PENDING', 'ACTIVE', 'BLOCKED', 'RESET_PENDING', 'REVOKED')),
    tries           bigint           NOT NULL CHECK (tries BETWEEN 1 AND 15),
    tries_left      bigint           NOT NULL CHECK (tries_left BETWEEN 0 AND tries),
    series          bigint           NOT NULL CHECK (series >= 0),
    record          bytea            NOT NULL CHECK (octet_length(record) <= 4096),
    approval        bytea            NOT NULL CHECK (octet_length(approval) IN (0, 32)),
    pending         bytea            NOT NULL CHECK (octet_length(pending) <= 4096),
    code            bytea            NOT NULL CHECK (octet_length(code) <= 512),
    code_tries_left bigint           NOT NULL CHECK (code_tries_left BETWEEN 0 AND 15),
    code_expires_at bigint           NOT NULL CHECK (code_expires_at >= 0),
    not_after       bigint           NOT NULL CHECK (not_after >= 0),
    events          bigint           NOT NULL CHECK (events >= 1),
    revision        bigint           NOT NULL CHECK (revision >= 1),
    created_at      bigint           NOT NULL,
    changed_at      bigint           NOT NULL
);
CREATE INDEX pin_records_by_merchant ON pin_records (merchant, subject);

CREATE TABLE pin_events (
    subject         bytea            NOT NULL CHECK (octet_length(subject) = 32),
    number          bigint           NOT NULL CHECK (number >= 1),
    kind            text COLLATE "C" NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 64),
    actor           text COLLATE "C" NOT NULL CHECK (octet_length(actor) <= 2048),
    detail          text             NOT NULL CHECK (octet_length(detail) <= 512),
    request         bytea            NOT NULL CHECK (octet_length(request) IN (0, 32)),
    at              bigint           NOT NULL,
    PRIMARY KEY (subject, number)
);
CREATE UNIQUE INDEX pin_events_by_request ON pin_events (request) WHERE length(request) > 0;

CREATE TABLE pin_misses (
    id              bigint           NOT NULL PRIMARY KEY CHECK (id = 1),
    misses          bigint           NOT NULL CHECK (misses >= 0)
);
INSERT INTO pin_misses (id, misses) VALUES (1, 0);
