-- Checks of keys, counted by hour and outcome. The subject is a key, the owner of a key, or the whole service, whose
-- id is all zeros. Each check is counted for all three, so that the rows of any subject are adjacent.
CREATE TABLE usage_hours (
    subject_id BLOB NOT NULL,
    -- In microseconds since 1970.
    hour_start BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    count BIGINT NOT NULL CHECK (count > 0),
    PRIMARY KEY (subject_id, hour_start, outcome)
) WITHOUT ROWID;

-- Counts of hours that are no longer kept, rolled up into days.
CREATE TABLE usage_days (
    subject_id BLOB NOT NULL,
    day_start BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    count BIGINT NOT NULL CHECK (count > 0),
    PRIMARY KEY (subject_id, day_start, outcome)
) WITHOUT ROWID;

-- Last batch of counts that each writer has written. A batch whose response was lost is not written twice.
CREATE TABLE usage_writers (
    id BLOB NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    written_at BIGINT NOT NULL
);

-- Progress of rolling up hours into days. One row, whose lock lets one instance at a time roll up.
CREATE TABLE usage_rollup (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Hours before this are being rolled up, or have been.
    until BIGINT NOT NULL,
    -- Next subject to roll up. NULL if all are done.
    subject_id BLOB
);
INSERT INTO usage_rollup (id, until) VALUES (1, 0);
