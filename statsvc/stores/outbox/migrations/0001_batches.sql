-- Batches that were acknowledged and are not known to be in the store, until they are.

CREATE TABLE batches (
  place INTEGER PRIMARY KEY AUTOINCREMENT,  -- in order of their commits; none comes twice
  id INTEGER NOT NULL UNIQUE,
  at_ms INTEGER NOT NULL,
  format INTEGER NOT NULL,                  -- how `batch` is written, so that a later program can read it
  batch BLOB NOT NULL
) STRICT;

CREATE TABLE probe (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  probes INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);
