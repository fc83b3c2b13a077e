-- Orders of kind cancel and remake: they have no rows of their own, they change those of another order.
ALTER TABLE orders ADD COLUMN change TEXT CHECK (change IN ('cancel', 'remake'));
ALTER TABLE orders ADD COLUMN target INTEGER REFERENCES orders (pk);
-- What an accepted remake is to bring about, one row a profile: the eUICC and the one-time key, claimed with the acceptance; new numbers
-- where a new profile takes the old one's place.
CREATE TABLE goals (
    change_pk  INTEGER NOT NULL REFERENCES orders (pk) DEFERRABLE INITIALLY DEFERRED,
    device     INTEGER NOT NULL REFERENCES devices (pk),
    eid        BLOB    NOT NULL CHECK (length(eid) = 16),
    euicc_otpk BLOB    NOT NULL CHECK (length(euicc_otpk) = 65),
    iccid      TEXT,
    imsi       TEXT,
    PRIMARY KEY (change_pk, device)
) STRICT, WITHOUT ROWID;
-- The order that asked for it; none where a command did.
ALTER TABLE remakes ADD COLUMN change_pk INTEGER REFERENCES orders (pk);
-- New profiles under new numbers, instead of the same ones once more.
ALTER TABLE remakes ADD COLUMN renumbered INTEGER NOT NULL DEFAULT 0 CHECK (renumbered IN (0, 1));
-- Numbers of the profile that was replaced; none in tombstones that are older than these columns.
ALTER TABLE tombstones ADD COLUMN iccid TEXT;
ALTER TABLE tombstones ADD COLUMN imsi TEXT;
