-- Ledger, schema version 1. What is claimed is claimed for good: a committed row of the four claim tables is never deleted.

CREATE TABLE orders (
    pk               INTEGER PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    order_id         TEXT    NOT NULL,
    rev              INTEGER NOT NULL,
    body_sha256      TEXT    NOT NULL,
    body             BLOB    NOT NULL,
    ack              BLOB    NOT NULL,
    templates        TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('open', 'exported')),
    rows             INTEGER NOT NULL,
    refused          INTEGER NOT NULL,
    sealed_batch_key BLOB,
    accepted_at      TEXT    NOT NULL,
    UNIQUE (tenant, order_id, rev)
) STRICT;

-- The lines of the first rejects.csv, so that a lost answer can be given again.
CREATE TABLE refusals (
    pk       INTEGER PRIMARY KEY,
    order_pk INTEGER NOT NULL REFERENCES orders (pk) DEFERRABLE INITIALLY DEFERRED,
    line     INTEGER NOT NULL,
    row      INTEGER NOT NULL,
    "column" TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    code     TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    hint     TEXT    NOT NULL
) STRICT;
CREATE INDEX refusals_of_order ON refusals (order_pk);

CREATE TABLE devices (
    pk          INTEGER PRIMARY KEY,
    order_pk    INTEGER NOT NULL REFERENCES orders (pk) DEFERRABLE INITIALLY DEFERRED,
    line        INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN
                    ('accepted', 'prepared', 'bound', 'exported', 'rejected', 'failed', 'held', 'cancelled')),
    eid         BLOB CHECK (length(eid) = 16),
    iccid       TEXT,
    imsi        TEXT,
    msisdn      TEXT,
    matching_id TEXT,
    euicc_otpk  BLOB CHECK (length(euicc_otpk) = 65),
    error_class TEXT,
    error       TEXT
) STRICT;
CREATE INDEX devices_of_order ON devices (order_pk, line);

-- Claims refer to their device at once, not deferred: a deferred key would make SQLite search all claims at every device.
CREATE TABLE iccids (
    iccid  TEXT    NOT NULL PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices (pk)
) STRICT, WITHOUT ROWID;

CREATE TABLE imsis (
    tenant TEXT    NOT NULL,
    imsi   TEXT    NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (pk),
    PRIMARY KEY (tenant, imsi)
) STRICT, WITHOUT ROWID;

-- By x coordinate: a point and its negative give one and the same shared secret.
CREATE TABLE one_time_keys (
    x      BLOB    NOT NULL PRIMARY KEY CHECK (length(x) = 32),
    device INTEGER NOT NULL REFERENCES devices (pk)
) STRICT, WITHOUT ROWID;

CREATE TABLE matching_ids (
    matching_id TEXT    NOT NULL PRIMARY KEY,
    device      INTEGER NOT NULL REFERENCES devices (pk)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunks (
    order_pk     INTEGER NOT NULL REFERENCES orders (pk),
    number       INTEGER NOT NULL,
    line         INTEGER NOT NULL,
    first_device INTEGER NOT NULL REFERENCES devices (pk),
    last_device  INTEGER NOT NULL REFERENCES devices (pk),
    done         INTEGER NOT NULL CHECK (done IN (0, 1)),
    sha256       BLOB CHECK (length(sha256) = 32),
    bytes        INTEGER,
    PRIMARY KEY (order_pk, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE issues (
    device             INTEGER PRIMARY KEY REFERENCES devices (pk),
    matching_id        TEXT    NOT NULL,
    transaction_id     BLOB CHECK (length(transaction_id) = 16),
    object             TEXT,
    offset             INTEGER NOT NULL,
    length             INTEGER NOT NULL,
    sha256             BLOB    NOT NULL CHECK (length(sha256) = 32),
    upp_sha256         BLOB    NOT NULL CHECK (length(upp_sha256) = 32),
    metadata_sha256    BLOB    NOT NULL CHECK (length(metadata_sha256) = 32),
    ki_enc             BLOB    NOT NULL,
    opc_enc            BLOB    NOT NULL,
    sealed_ppk         BLOB,
    sealed_credentials BLOB
) STRICT;
