-- What was let go of on the operator's wish, so that `statsvc check` knows it from what was lost.

CREATE TABLE let_go (
  what TEXT PRIMARY KEY,                    -- a table's name
  days_before TEXT NOT NULL                 -- its rows of local days before this one are gone, or going
) STRICT, WITHOUT ROWID;
