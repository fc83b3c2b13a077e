-- Held, cancelled and revoked rows. SQLite cannot change a CHECK: the table is made anew under another name, filled, and takes the
-- old one's place (sqlite.org/lang_altertable.html, "Making Other Kinds Of Table Schema Changes"); foreign keys are off meanwhile
-- and checked before the commit.
CREATE TABLE devices_anew (
    pk          INTEGER PRIMARY KEY,
    order_pk    INTEGER NOT NULL REFERENCES orders (pk) DEFERRABLE INITIALLY DEFERRED,
    line        INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN
                    ('accepted', 'prepared', 'bound', 'exported', 'rejected', 'failed', 'held', 'cancelled', 'revoked')),
    eid         BLOB CHECK (length(eid) = 16),
    iccid       TEXT,
    imsi        TEXT,
    msisdn      TEXT,
    matching_id TEXT,
    euicc_otpk  BLOB CHECK (length(euicc_otpk) = 65),
    error_class TEXT,
    error       TEXT,
    vars        TEXT,
    ki_wrapped  BLOB,
    opc_wrapped BLOB
) STRICT;
INSERT INTO devices_anew (pk, order_pk, line, row, state, eid, iccid, imsi, msisdn, matching_id, euicc_otpk, error_class, error, vars,
                          ki_wrapped, opc_wrapped)
    SELECT pk, order_pk, line, row, state, eid, iccid, imsi, msisdn, matching_id, euicc_otpk, error_class, error, vars, ki_wrapped,
           opc_wrapped FROM devices;
DROP TABLE devices;
ALTER TABLE devices_anew RENAME TO devices;
CREATE INDEX devices_of_order ON devices (order_pk, line);

-- A runner works on it, or was killed while it did.
ALTER TABLE chunks ADD COLUMN started INTEGER NOT NULL DEFAULT 0 CHECK (started IN (0, 1));
-- Which of its order's bundles it belongs to, once done: 0 the order's own, 1 the first of held rows that were released later, ...
ALTER TABLE chunks ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
-- The bundle that is being filled.
ALTER TABLE orders ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
-- A runner counts and seals: rows do not change their state meanwhile.
ALTER TABLE orders ADD COLUMN sealing INTEGER NOT NULL DEFAULT 0 CHECK (sealing IN (0, 1));
