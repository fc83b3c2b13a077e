-- Profiles made again for another one-time key, one row a command. input: SHA-256 of what was asked for, so that the same question
-- gets the same answer.
CREATE TABLE remakes (
    order_pk    INTEGER NOT NULL REFERENCES orders (pk),
    number      INTEGER NOT NULL,
    input       BLOB    NOT NULL CHECK (length(input) = 32),
    rows        INTEGER NOT NULL,
    other_euicc INTEGER NOT NULL,
    PRIMARY KEY (order_pk, number),
    UNIQUE (order_pk, input)
) STRICT, WITHOUT ROWID;

-- The packages that were replaced. Their numbers and one-time keys stay claimed; they hold no secret.
CREATE TABLE tombstones (
    device         INTEGER NOT NULL REFERENCES devices (pk),
    remake         INTEGER NOT NULL,
    state          TEXT    NOT NULL CHECK (state = 'revoked'),
    eid            BLOB    CHECK (length(eid) = 16),
    euicc_otpk     BLOB    CHECK (length(euicc_otpk) = 65),
    matching_id    TEXT    NOT NULL,
    transaction_id BLOB    NOT NULL CHECK (length(transaction_id) = 16),
    object         TEXT,
    offset         INTEGER NOT NULL,
    length         INTEGER NOT NULL,
    sha256         BLOB    NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (device, remake)
) STRICT, WITHOUT ROWID;
