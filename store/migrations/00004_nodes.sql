-- +goose Up
-- The node that began a ceremony, and the one that proposed an epoch; empty for none.
ALTER TABLE ceremonies ADD COLUMN node TEXT NOT NULL DEFAULT '' CHECK (length(node) <= 64);
ALTER TABLE epochs ADD COLUMN node TEXT NOT NULL DEFAULT '' CHECK (length(node) <= 64);

-- One row. The revision rises with every change of keys, aliases, tags, ceremonies and
-- epochs. restored is 1 from the import of a backup until an epoch follows.
CREATE TABLE marks (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL CHECK (revision >= 0),
    restored INTEGER NOT NULL CHECK (restored IN (0, 1))
) STRICT;
INSERT INTO marks (one, revision, restored) VALUES (1, 0, 0);

-- What is kept for ever of each epoch that came into force. The link is opaque.
CREATE TABLE epoch_links (
    version INTEGER NOT NULL PRIMARY KEY CHECK (version >= 1),
    link    BLOB    NOT NULL CHECK (length(link) <= 256)
) STRICT;

-- The fronts on this database. last_seen counts microseconds from 1970 in UTC.
CREATE TABLE nodes (
    name         TEXT    NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    version      TEXT    NOT NULL CHECK (length(version) <= 128),
    epoch        INTEGER NOT NULL CHECK (epoch >= 0),
    instance     TEXT    NOT NULL CHECK (length(instance) <= 128),
    detail       TEXT    NOT NULL CHECK (length(detail) <= 4096),
    last_seen    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
