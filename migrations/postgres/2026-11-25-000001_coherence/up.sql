-- Coordination of the instances' caches: see src/verification/coherence.

-- One row, whose lock makes revisions commit in order.
CREATE TABLE revision_clock (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL,
    -- Random for each revision. Distinguishes it from a revision of the same number in a history that was lost, for
    -- example by a restore.
    tag BIGINT NOT NULL
);
INSERT INTO revision_clock (id, revision, tag) VALUES (1, 0, 0);

-- Changes to data that decisions depend on: of one key, or of a user and so of all their keys.
CREATE TABLE key_changes (
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    tag BIGINT NOT NULL,
    digest BYTEA,
    user_id BYTEA,
    PRIMARY KEY (revision, position),
    CHECK ((digest IS NULL) <> (user_id IS NULL))
);

-- Instances that may use their caches, and the revision up to which each has evicted changed keys.
CREATE TABLE instances (
    id BYTEA NOT NULL PRIMARY KEY,
    acked_revision BIGINT NOT NULL,
    -- Number of renewals, by which other instances see that this one renews, without comparing clocks.
    renewals BIGINT NOT NULL,
    lease_micros BIGINT NOT NULL
);
