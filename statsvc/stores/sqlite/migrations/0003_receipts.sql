-- Events that say who they are count once, however often they are sent: what was counted is kept for a day.
-- And a site may count a page that is loaded again and again by the same visitor once.

CREATE TABLE receipts (
  place INTEGER PRIMARY KEY,                -- in order of commit, whatever the clock did
  at_ms INTEGER NOT NULL,
  ids BLOB NOT NULL                         -- opaque: hashes of the events' ids
) STRICT;

ALTER TABLE sites ADD COLUMN repeat_seconds INTEGER NOT NULL DEFAULT 0;

-- The view that a commit is (see 0001), with receipts.
DROP TRIGGER commit_batch;
DROP VIEW commits;

CREATE VIEW commits AS
  SELECT id, at_ms, open_visits, NULL AS tally, NULL AS receipts FROM batches;

CREATE TRIGGER commit_batch INSTEAD OF INSERT ON commits
BEGIN
  INSERT INTO batches (id, at_ms, open_visits) VALUES (NEW.id, NEW.at_ms, NEW.open_visits);

  INSERT INTO receipts (at_ms, ids) SELECT NEW.at_ms, NEW.receipts WHERE length(NEW.receipts) > 0;

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
