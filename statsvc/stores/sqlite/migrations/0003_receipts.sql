-- Events that say who they are count once, however often they are sent: what was counted is kept for a day.
-- And a site may count a page that is loaded again and again by the same visitor once.

CREATE TABLE receipts (
  place INTEGER PRIMARY KEY,                -- in order of commit, whatever the clock did
  at_ms INTEGER NOT NULL,
  ids TEXT NOT NULL                         -- JSON array of hashes of the events' ids
) STRICT;

ALTER TABLE sites ADD COLUMN repeat_seconds INTEGER NOT NULL DEFAULT 0;

-- A second trigger of the view that a commit is (see 0001); both are in the same statement, done whole or not at all.
CREATE TRIGGER commit_receipts INSTEAD OF INSERT ON commits
WHEN json_array_length(NEW.tally, '$.receipts') > 0
BEGIN
  INSERT INTO receipts (at_ms, ids) VALUES (NEW.at_ms, json_extract(NEW.tally, '$.receipts'));
END;
