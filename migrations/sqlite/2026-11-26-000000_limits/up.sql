-- First key of a lineage: the keys that replaced one another by rotation. Their shared data is stored under its id.
ALTER TABLE api_keys ADD COLUMN lineage_id BLOB NOT NULL DEFAULT x'';
WITH RECURSIVE lineages (id, lineage_id) AS (
    SELECT id, id FROM api_keys WHERE rotated_from IS NULL
    UNION ALL
    SELECT api_keys.id, lineages.lineage_id
    FROM api_keys JOIN lineages ON api_keys.rotated_from = lineages.id
)
UPDATE api_keys SET lineage_id = lineages.lineage_id FROM lineages WHERE lineages.id = api_keys.id;
CREATE INDEX api_keys_lineage_id ON api_keys (lineage_id);

-- Limits of at most 2^53, and a window of at most one day.
ALTER TABLE api_keys ADD COLUMN rate_limit BIGINT
    CHECK (rate_limit BETWEEN 1 AND 9007199254740992);
ALTER TABLE api_keys ADD COLUMN rate_window_seconds BIGINT
    CHECK (rate_window_seconds BETWEEN 1 AND 86400)
    CHECK ((rate_window_seconds IS NULL) = (rate_limit IS NULL));
ALTER TABLE api_keys ADD COLUMN quota_limit BIGINT
    CHECK (quota_limit BETWEEN 1 AND 9007199254740992);
ALTER TABLE api_keys ADD COLUMN quota_period TEXT
    CHECK (quota_period IN ('day', 'month', 'total'))
    CHECK ((quota_period IS NULL) = (quota_limit IS NULL));

-- Units taken from a quota: used, or in a block that an instance has reserved.
CREATE TABLE quota_usage (
    lineage_id BLOB NOT NULL,
    period TEXT NOT NULL,
    -- In microseconds since 1970. 0 if the period never ends.
    period_start BIGINT NOT NULL,
    used BIGINT NOT NULL CHECK (used >= 0),
    PRIMARY KEY (lineage_id, period, period_start)
);
