-- A bundle is sealed for whole chunks: that its rows are exported is kept here, in one row, instead of in a thousand. 1: those of its rows
-- that say prepared or bound are exported.
ALTER TABLE chunks ADD COLUMN exported INTEGER NOT NULL DEFAULT 0 CHECK (exported IN (0, 1));
CREATE INDEX exported_chunks ON chunks (order_pk, first_device, last_device) WHERE exported = 1;
-- Where each row stands, for whoever looks into the ledger. No two chunks have a row in common: the last one of its order that begins
-- before a row is the only one that may hold it.
CREATE VIEW device_states AS
    SELECT pk, order_pk, line, row, CASE WHEN state IN ('prepared', 'bound') AND
        (SELECT c.last_device FROM chunks c WHERE c.exported = 1 AND c.order_pk = d.order_pk AND c.first_device <= d.pk
         ORDER BY c.first_device DESC LIMIT 1) >= d.pk
        THEN 'exported' ELSE state END AS state
    FROM devices d;
