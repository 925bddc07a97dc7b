-- Sites and what operators say of them.

CREATE TABLE sites (
  id INTEGER PRIMARY KEY,
  domain TEXT NOT NULL UNIQUE,
  time_zone TEXT NOT NULL,
  aliases TEXT NOT NULL,                    -- JSON array
  window_seconds INTEGER NOT NULL,
  visit_gap_seconds INTEGER NOT NULL,
  public INTEGER NOT NULL,
  added_at_ms INTEGER NOT NULL,
  removed_at_ms INTEGER                     -- its counts are kept; adding it again goes on from them
) STRICT;

CREATE TABLE baselines (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  site INTEGER NOT NULL REFERENCES sites,
  visits INTEGER NOT NULL,
  pageviews INTEGER NOT NULL,
  reason TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  undone_at_ms INTEGER,
  undone_reason TEXT
) STRICT;

CREATE TABLE tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  site INTEGER NOT NULL REFERENCES sites,
  digest BLOB NOT NULL UNIQUE,              -- SHA-256; the token itself is not kept
  note TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER
) STRICT;

-- Counts, kept for ever. `bot` is 1 for bots, 0 for people. Days are the site's local dates.

CREATE TABLE hours (
  site INTEGER NOT NULL,
  hour INTEGER NOT NULL,                    -- when the local hour began, seconds since the epoch
  bot INTEGER NOT NULL,
  visits INTEGER NOT NULL,
  pageviews INTEGER NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (site, hour, bot)
) STRICT, WITHOUT ROWID;

CREATE TABLE days (
  site INTEGER NOT NULL,
  day TEXT NOT NULL,
  bot INTEGER NOT NULL,
  visits INTEGER NOT NULL,
  pageviews INTEGER NOT NULL,
  visitors INTEGER NOT NULL,
  PRIMARY KEY (site, day, bot)
) STRICT, WITHOUT ROWID;

CREATE TABLE totals (
  site INTEGER NOT NULL,
  bot INTEGER NOT NULL,
  visits INTEGER NOT NULL,
  pageviews INTEGER NOT NULL,
  PRIMARY KEY (site, bot)
) STRICT, WITHOUT ROWID;

CREATE TABLE pages (
  site INTEGER NOT NULL,
  path TEXT NOT NULL,
  visits INTEGER NOT NULL,
  pageviews INTEGER NOT NULL,
  PRIMARY KEY (site, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE page_days (
  site INTEGER NOT NULL,
  day TEXT NOT NULL,
  path TEXT NOT NULL,
  visits INTEGER NOT NULL,
  pageviews INTEGER NOT NULL,
  PRIMARY KEY (site, day, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE names (
  site INTEGER NOT NULL,
  day TEXT NOT NULL,
  bot INTEGER NOT NULL,
  name TEXT NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (site, day, bot, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE peaks (
  site INTEGER NOT NULL,
  day TEXT NOT NULL,
  visitors INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (site, day)
) STRICT, WITHOUT ROWID;

-- What is needed for a while, and then destroyed.

CREATE TABLE secrets (
  site INTEGER NOT NULL,
  day TEXT NOT NULL,
  secret BLOB NOT NULL,
  PRIMARY KEY (site, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE batches (
  place INTEGER PRIMARY KEY,                -- in order of commit, whatever the clock did
  id INTEGER NOT NULL UNIQUE,
  at_ms INTEGER NOT NULL,
  open_visits BLOB NOT NULL
) STRICT;

-- One row for all that were new in a batch; never looked up while counting: a set in memory knows them.
CREATE TABLE newcomers (
  site INTEGER NOT NULL,
  day TEXT NOT NULL,
  bot INTEGER NOT NULL,
  batch INTEGER NOT NULL,
  visitors TEXT NOT NULL,                   -- JSON array of ids
  PRIMARY KEY (site, day, bot, batch)
) STRICT, WITHOUT ROWID;

CREATE TABLE probe (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  probes INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);

-- A commit is one INSERT into this view. Python's sqlite3 gives up the interpreter lock for each
-- statement and on a busy service waits up to 5 ms to get it back: ten statements a batch would cost
-- up to 50 ms, one row at a time far more. The trigger runs in C, in the INSERT's own transaction, and
-- a batch that is there already fails on batches.id, which undoes the whole statement.

CREATE VIEW commits AS
  SELECT id, at_ms, open_visits, NULL AS tally FROM batches;

CREATE TRIGGER commit_batch INSTEAD OF INSERT ON commits
BEGIN
  INSERT INTO batches (id, at_ms, open_visits) VALUES (NEW.id, NEW.at_ms, NEW.open_visits);

  INSERT INTO hours (site, hour, bot, visits, pageviews, events)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
    FROM json_each(NEW.tally, '$.hours') WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews,
      events = events + excluded.events;

  INSERT INTO days (site, day, bot, visits, pageviews, visitors)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
    FROM json_each(NEW.tally, '$.days') WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews,
      visitors = visitors + excluded.visitors;

  INSERT INTO totals (site, bot, visits, pageviews)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.tally, '$.days') WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews;

  INSERT INTO pages (site, path, visits, pageviews)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.tally, '$.pages') WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews;

  INSERT INTO page_days (site, day, path, visits, pageviews)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.tally, '$.pages') WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews;

  INSERT INTO names (site, day, bot, name, events)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.tally, '$.names') WHERE true
    ON CONFLICT DO UPDATE SET events = events + excluded.events;

  INSERT INTO newcomers (site, day, bot, batch, visitors)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           NEW.id, json_extract(value, '$[3]')
    FROM json_each(NEW.tally, '$.newcomers');

  INSERT INTO peaks (site, day, visitors, at_ms)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]')
    FROM json_each(NEW.tally, '$.peaks') WHERE true
    ON CONFLICT DO UPDATE SET visitors = excluded.visitors, at_ms = excluded.at_ms
    WHERE excluded.visitors > visitors;
END;
