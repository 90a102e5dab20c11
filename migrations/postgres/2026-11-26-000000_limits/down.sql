-- The older schema cannot store limits, so keys that have any are revoked.
UPDATE api_keys SET revoked_at = CAST(extract(epoch FROM now()) * 1000000 AS BIGINT)
WHERE revoked_at IS NULL AND (rate_limit IS NOT NULL OR quota_limit IS NOT NULL);

DROP TABLE quota_usage;
ALTER TABLE api_keys DROP COLUMN quota_period;
ALTER TABLE api_keys DROP COLUMN quota_limit;
ALTER TABLE api_keys DROP COLUMN rate_window_seconds;
ALTER TABLE api_keys DROP COLUMN rate_limit;
DROP INDEX api_keys_lineage_id;
ALTER TABLE api_keys DROP COLUMN lineage_id;
