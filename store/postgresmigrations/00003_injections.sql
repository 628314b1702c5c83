-- +goose Up

ALTER TABLE terminals ADD COLUMN key_set text COLLATE "C" NOT NULL DEFAULT '' CHECK (octet_length(key_set) <= 64);

CREATE TABLE key_hosts (
    name         text COLLATE "C" NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 64),
    key          text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 160),
    certificates bytea            NOT NULL CHECK (octet_length(certificates) BETWEEN 1 AND 16384),
    list         bytea            NOT NULL CHECK (octet_length(list) <= 16384),
    changed_at   bigint           NOT NULL
);

CREATE TABLE key_sets (
    name       text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    version    bigint           NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    content    bytea            NOT NULL CHECK (octet_length(content) BETWEEN 1 AND 16384),
    created_at bigint           NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE revocation_lists (
    issuer_key  bytea            NOT NULL PRIMARY KEY CHECK (octet_length(issuer_key) = 32),
    issuer      text             NOT NULL CHECK (octet_length(issuer) <= 1024),
    number      text COLLATE "C" NOT NULL CHECK (octet_length(number) <= 64),
    entries     bigint           NOT NULL CHECK (entries >= 0),
    this_update bigint           NOT NULL,
    next_update bigint           NOT NULL,
    digest      bytea            NOT NULL CHECK (octet_length(digest) = 32),
    issuers     bytea            NOT NULL CHECK (octet_length(issuers) <= 16384),
    list        bytea            NOT NULL CHECK (octet_length(list) BETWEEN 1 AND 8388608),
    stored_at   bigint           NOT NULL
);

CREATE TABLE injections (
    terminal        text COLLATE "C" NOT NULL CHECK (octet_length(terminal) BETWEEN 1 AND 64),
    number          bigint           NOT NULL CHECK (number >= 1),
    id              text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(id) = 32),
    state           text COLLATE "C" NOT NULL CHECK (state IN ('BEGUN', 'PENDING', 'CONFIRMED', 'EXPIRED', 'SUPERSEDED', 'FAILED', 'ENDED')),
    method          text COLLATE "C" NOT NULL CHECK (octet_length(method) BETWEEN 1 AND 32),
    key_set         text COLLATE "C" NOT NULL CHECK (octet_length(key_set) BETWEEN 1 AND 64),
    key_set_version bigint           NOT NULL CHECK (key_set_version BETWEEN 1 AND 4294967295),
    request         bytea            NOT NULL CHECK (octet_length(request) = 32),
    nonce           bytea            NOT NULL CHECK (octet_length(nonce) IN (0, 32)),
    keys            bytea            NOT NULL CHECK (octet_length(keys) <= 4096),
    revision        bigint           NOT NULL CHECK (revision >= 1),
    answer          bytea            NOT NULL CHECK (octet_length(answer) <= 131072),
    key_blocks      bytea            NOT NULL CHECK (octet_length(key_blocks) <= 65536),
    record          bytea            NOT NULL CHECK (octet_length(record) <= 32768),
    receipt         bytea            NOT NULL CHECK (octet_length(receipt) <= 32768),
    statement       bytea            NOT NULL CHECK (octet_length(statement) <= 65536),
    failure         text             NOT NULL CHECK (octet_length(failure) <= 256),
    created_at      bigint           NOT NULL,
    confirm_by      bigint           NOT NULL,
    confirmed_at    bigint           NOT NULL,
    PRIMARY KEY (terminal, number)
);
CREATE UNIQUE INDEX injections_by_nonce ON injections (terminal, nonce) WHERE length(nonce) > 0;
CREATE INDEX injections_open ON injections (state, confirm_by) WHERE state IN ('BEGUN', 'PENDING');

CREATE TABLE initial_keys (
    bdk       text COLLATE "C" NOT NULL CHECK (octet_length(bdk) BETWEEN 1 AND 128),
    id        bytea            NOT NULL CHECK (octet_length(id) IN (8, 10)),
    terminal  text COLLATE "C" NOT NULL CHECK (octet_length(terminal) BETWEEN 1 AND 64),
    injection text COLLATE "C" NOT NULL CHECK (octet_length(injection) = 32),
    confirmed bigint           NOT NULL CHECK (confirmed IN (0, 1)),
    PRIMARY KEY (bdk, id)
);
CREATE INDEX initial_keys_by_injection ON initial_keys (injection);

CREATE TABLE initial_key_ranges (
    bdk    text COLLATE "C" NOT NULL CHECK (octet_length(bdk) BETWEEN 1 AND 128),
    prefix bytea            NOT NULL CHECK (octet_length(prefix) IN (4, 5)),
    first  bigint           NOT NULL CHECK (first BETWEEN 0 AND 4294967295),
    next   bigint           NOT NULL CHECK (next BETWEEN 0 AND 4294967296),
    PRIMARY KEY (bdk, prefix, first)
);

CREATE TABLE terminal_keys (
    terminal   text COLLATE "C" NOT NULL CHECK (octet_length(terminal) BETWEEN 1 AND 64),
    name       text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 16),
    version    bigint           NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    injection  text COLLATE "C" NOT NULL CHECK (octet_length(injection) = 32),
    sealed     bytea            NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 65536),
    not_after  bigint           NOT NULL,
    created_at bigint           NOT NULL,
    PRIMARY KEY (terminal, name, version, injection)
);
