-- least: 1
-- A batch that was brought here, and whose answer was lost, waits in its node's outbox; it may be brought again when its
-- open visits have long been forgotten here. It is one of the last that its node brought: those are remembered.

CREATE INDEX ON batches (node, place);

CREATE TABLE remembered (
  id bigint PRIMARY KEY,                    -- a batch's
  since timestamptz NOT NULL DEFAULT now()
);
