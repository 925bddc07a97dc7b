-- A token may read, or administer; a site, or, where there is none, the whole service.

CREATE TABLE scoped_tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  site INTEGER REFERENCES sites,
  scope TEXT NOT NULL,
  digest BLOB NOT NULL UNIQUE,              -- SHA-256; the token itself is not kept
  note TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER
) STRICT;

INSERT INTO scoped_tokens SELECT id, site, 'read', digest, note, made_at_ms, revoked_at_ms FROM tokens;
DROP TABLE tokens;
ALTER TABLE scoped_tokens RENAME TO tokens;
