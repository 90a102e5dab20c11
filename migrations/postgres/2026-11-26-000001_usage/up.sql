-- What was done with keys, by hour and by outcome. The subject is a key, whoever it belongs to, or, with an id of
-- zeros, the service: each use is counted for all three, so that whatever is asked for stands together.
CREATE TABLE usage_hours (
    subject_id BYTEA NOT NULL,
    -- In microseconds since 1970.
    hour_start BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    count BIGINT NOT NULL CHECK (count > 0),
    PRIMARY KEY (subject_id, hour_start, outcome)
);

-- What has become of hours that are not kept any more.
CREATE TABLE usage_days (
    subject_id BYTEA NOT NULL,
    day_start BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    count BIGINT NOT NULL CHECK (count > 0),
    PRIMARY KEY (subject_id, day_start, outcome)
);

-- The last batch of counts that each writer has written: one whose answer was lost is not written twice.
CREATE TABLE usage_writers (
    id BYTEA NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    written_at BIGINT NOT NULL
);

-- How far hours have been rolled up into days. One row, whose lock lets one instance at a time do so.
CREATE TABLE usage_rollup (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Hours before this are being rolled up, or have been.
    until BIGINT NOT NULL,
    -- The next subject whose turn it is. NULL: all have had theirs.
    subject_id BYTEA
);
INSERT INTO usage_rollup (id, until) VALUES (1, 0);
