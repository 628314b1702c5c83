-- +goose Up
-- One row per version of a key; the current version is the highest. The sealed key is
-- opaque. created_at counts microseconds from 1970 in UTC.
CREATE TABLE keys (
    name       TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    version    INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    state      TEXT    NOT NULL CHECK (state IN ('ENABLED', 'DISABLED')),
    sealed     BLOB    NOT NULL CHECK (length(sealed) BETWEEN 1 AND 65536),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
