-- How instances agree on what they may answer from memory: src/verification/coherence.

-- One row, whose lock makes revisions commit in their order.
CREATE TABLE revision_clock (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL,
    -- Random for each revision: tells it from another of the same number, of a history that was lost.
    tag BIGINT NOT NULL
);
INSERT INTO revision_clock (id, revision, tag) VALUES (1, 0, 0);

-- What was changed of what verdicts depend on: of one key, or of a user and so of all their keys.
CREATE TABLE key_changes (
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    tag BIGINT NOT NULL,
    digest BYTEA,
    user_id BYTEA,
    PRIMARY KEY (revision, position),
    CHECK ((digest IS NULL) <> (user_id IS NULL))
);

-- Who may answer from memory, and up to which revision they have forgotten what was changed.
CREATE TABLE instances (
    id BYTEA NOT NULL PRIMARY KEY,
    acked_revision BIGINT NOT NULL,
    -- Counts, so that others see without comparing clocks whether it goes on.
    renewals BIGINT NOT NULL,
    lease_micros BIGINT NOT NULL
);
