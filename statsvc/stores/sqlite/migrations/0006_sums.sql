-- A posting is an INSERT into a view with a text for each table: as parts of one text, each of them made SQLite
-- take all of it apart. Lists of ids are text, which is kept as it is.

DROP TRIGGER post;

-- Inserting: post this, the sum of all up to `place`, whole or not at all (see 0005).
CREATE VIEW sums AS
  SELECT place, since, at_ms, NULL AS hours, NULL AS days, NULL AS pages, NULL AS names, NULL AS newcomers,
         NULL AS peaks, NULL AS receipts
  FROM postings WHERE false;

CREATE TRIGGER post INSTEAD OF INSERT ON sums
BEGIN
  SELECT raise(ABORT, 'something else was posted meanwhile') WHERE NEW.since <> (SELECT place FROM posted);
  UPDATE posted SET place = NEW.place;

  INSERT INTO hours (site, hour, bot, visits, pageviews, events)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
    FROM json_each(NEW.hours) WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews,
      events = events + excluded.events;

  INSERT INTO days (site, day, bot, visits, pageviews, visitors)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
    FROM json_each(NEW.days) WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews,
      visitors = visitors + excluded.visitors;

  INSERT INTO totals (site, bot, visits, pageviews)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.days) WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews;

  INSERT INTO pages (site, path, visits, pageviews)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.pages) WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews;

  INSERT INTO page_days (site, day, path, visits, pageviews)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.pages) WHERE true
    ON CONFLICT DO UPDATE SET
      visits = visits + excluded.visits,
      pageviews = pageviews + excluded.pageviews;

  INSERT INTO names (site, day, bot, name, events)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(NEW.names) WHERE true
    ON CONFLICT DO UPDATE SET events = events + excluded.events;

  INSERT INTO newcomers (site, day, bot, batch, visitors)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           NEW.place, json_extract(value, '$[3]')
    FROM json_each(NEW.newcomers);

  INSERT INTO peaks (site, day, visitors, at_ms)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]')
    FROM json_each(NEW.peaks) WHERE true
    ON CONFLICT DO UPDATE SET visitors = excluded.visitors, at_ms = excluded.at_ms
    WHERE excluded.visitors > visitors;

  INSERT INTO receipts (at_ms, ids) SELECT NEW.at_ms, NEW.receipts WHERE NEW.receipts <> '[]';
END;

-- What is read of `postings` can be posted as it is, as when a backup is made.
CREATE TRIGGER post_one INSTEAD OF INSERT ON postings
BEGIN
  INSERT INTO sums SELECT
    NEW.place, NEW.since, NEW.at_ms, json_extract(NEW.tally, '$.hours'), json_extract(NEW.tally, '$.days'),
    json_extract(NEW.tally, '$.pages'), json_extract(NEW.tally, '$.names'),
    json_extract(NEW.tally, '$.newcomers'), json_extract(NEW.tally, '$.peaks'),
    json_extract(NEW.tally, '$.receipts');
END;
