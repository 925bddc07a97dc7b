-- A commit is one row appended to `batches`, with all that the batch adds. It is posted to the tables that
-- are read later, many batches together: a row that each of a thousand batches adds to is written once.

ALTER TABLE batches ADD COLUMN tally TEXT NOT NULL DEFAULT '{}';

CREATE TABLE posted (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  place INTEGER NOT NULL                    -- of `batches`: what is up to here is in all tables
) STRICT;
INSERT INTO posted SELECT 1, coalesce(max(place), 0) FROM batches;

DROP VIEW commits;                          -- and its triggers

-- Reading: what has not been posted. Inserting: post this, the sum of all up to `place`, whole or not at all.
-- One statement, for the reason that is given in 0001. `since` is what the sum begins after, if that is known:
-- then what was posted meanwhile is not posted again.
CREATE VIEW postings AS
  SELECT place, at_ms, tally, NULL AS since FROM batches
  WHERE place > (SELECT place FROM posted) ORDER BY place;

CREATE VIEW totals_to_post AS
  SELECT json_extract(value, '$[0]') AS site, json_extract(value, '$[2]') AS bot,
         json_extract(value, '$[3]') AS visits, json_extract(value, '$[4]') AS pageviews
  FROM postings, json_each(tally, '$.days');

CREATE TRIGGER post INSTEAD OF INSERT ON postings
BEGIN
  SELECT raise(ABORT, 'something else was posted meanwhile') WHERE NEW.since <> (SELECT place FROM posted);
  UPDATE posted SET place = NEW.place;

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
           NEW.place, json_extract(value, '$[3]')
    FROM json_each(NEW.tally, '$.newcomers');

  INSERT INTO peaks (site, day, visitors, at_ms)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]')
    FROM json_each(NEW.tally, '$.peaks') WHERE true
    ON CONFLICT DO UPDATE SET visitors = excluded.visitors, at_ms = excluded.at_ms
    WHERE excluded.visitors > visitors;

  INSERT INTO receipts (at_ms, ids)
    SELECT NEW.at_ms, json_extract(NEW.tally, '$.receipts')
    WHERE json_array_length(NEW.tally, '$.receipts') > 0;
END;
