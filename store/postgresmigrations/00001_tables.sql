-- +goose Up
-- All is in the schema keyd. Numbers are bigint; times count microseconds from 1970 in UTC;
-- names are ordered by their bytes. What the tables mean is said in the SQLite migrations.
CREATE TABLE keys (
    name       text   COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 128),
    version    bigint NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    state      text   NOT NULL CHECK (state IN ('ENABLED', 'DISABLED')),
    sealed     bytea  NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 65536),
    created_at bigint NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE counter_journal (
    number bigint NOT NULL PRIMARY KEY CHECK (number >= 1),
    batch  bytea  NOT NULL CHECK (octet_length(batch) BETWEEN 1 AND 1048576)
);
-- A batch is ciphertext and digests: to try to compress it only costs time.
ALTER TABLE counter_journal ALTER COLUMN batch SET STORAGE EXTERNAL;

CREATE TABLE counters (
    sequence    bytea  NOT NULL PRIMARY KEY CHECK (octet_length(sequence) BETWEEN 1 AND 64),
    counter     bigint NOT NULL CHECK (counter BETWEEN 0 AND 4294967295),
    receipt     bytea  NOT NULL CHECK (octet_length(receipt) <= 256),
    accepted_at bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE receipt_keys (
    id         bigint NOT NULL PRIMARY KEY CHECK (id >= 1),
    key        bytea  NOT NULL CHECK (octet_length(key) = 32),
    created_at bigint NOT NULL
);

CREATE TABLE ceremonies (
    id         text   COLLATE "C" NOT NULL PRIMARY KEY CHECK (octet_length(id) = 32),
    kind       text   NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 32),
    node       text   NOT NULL CHECK (octet_length(node) <= 64),
    subject    text   NOT NULL CHECK (octet_length(subject) <= 256),
    state      text   NOT NULL CHECK (state IN ('OPEN', 'COMPLETED', 'ABORTED', 'EXPIRED')),
    revision   bigint NOT NULL CHECK (revision >= 0),
    papers     bytea  NOT NULL CHECK (octet_length(papers) <= 262144),
    record     bytea  NOT NULL CHECK (octet_length(record) <= 524288),
    opened_at  bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX ceremonies_by_time ON ceremonies (opened_at, id);
CREATE INDEX ceremonies_by_state ON ceremonies (state, opened_at, id);

CREATE TABLE epochs (
    version  bigint NOT NULL PRIMARY KEY CHECK (version >= 1),
    state    text   NOT NULL UNIQUE CHECK (state IN ('CURRENT', 'PROPOSED')),
    sealed   bytea  NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 1048576),
    change   bytea  NOT NULL CHECK (octet_length(change) <= 4194304),
    ceremony text   NOT NULL CHECK (octet_length(ceremony) IN (0, 32)),
    node     text   NOT NULL CHECK (octet_length(node) <= 64)
);

CREATE TABLE epoch_links (
    version bigint NOT NULL PRIMARY KEY CHECK (version >= 1),
    link    bytea  NOT NULL CHECK (octet_length(link) <= 256)
);

CREATE TABLE aliases (
    alias  text COLLATE "C" NOT NULL PRIMARY KEY CHECK (octet_length(alias) BETWEEN 1 AND 128),
    target text COLLATE "C" NOT NULL CHECK (octet_length(target) BETWEEN 1 AND 128)
);
CREATE INDEX aliases_by_target ON aliases (target, alias);

CREATE TABLE key_tags (
    name  text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 128),
    tag   text COLLATE "C" NOT NULL CHECK (octet_length(tag) BETWEEN 1 AND 128),
    value text COLLATE "C" NOT NULL CHECK (octet_length(value) <= 256),
    PRIMARY KEY (name, tag)
);
CREATE INDEX key_tags_by_tag ON key_tags (tag, name);
CREATE INDEX key_tags_by_value ON key_tags (tag, value, name);

CREATE TABLE key_usage (
    name      text   COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 128),
    version   bigint NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    uses      bigint NOT NULL CHECK (uses >= 0),
    last_used bigint NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE nodes (
    name         text   COLLATE "C" NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 64),
    version      text   NOT NULL CHECK (octet_length(version) <= 128),
    epoch        bigint NOT NULL CHECK (epoch >= 0),
    instance     text   NOT NULL CHECK (octet_length(instance) <= 128),
    detail       text   NOT NULL CHECK (octet_length(detail) <= 4096),
    last_seen    bigint NOT NULL
);

CREATE TABLE marks (
    one      bigint NOT NULL PRIMARY KEY CHECK (one = 1),
    revision bigint NOT NULL CHECK (revision >= 0),
    restored bigint NOT NULL CHECK (restored IN (0, 1))
);
INSERT INTO marks (one, revision, restored) VALUES (1, 0, 0);
