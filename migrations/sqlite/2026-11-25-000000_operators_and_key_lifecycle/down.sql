-- The older schema cannot store the restrictions of these keys, so the keys are revoked. Deactivated users get a
-- password hash that matches no password, and their tokens become invalid.
UPDATE api_keys SET revoked_at = CAST(strftime('%s', 'now') AS BIGINT) * 1000000
WHERE revoked_at IS NULL
  AND (NOT enabled OR expires_at IS NOT NULL OR ip_allowlist <> '' OR scopes <> ''
       OR user_id IN (SELECT id FROM users WHERE NOT active));
UPDATE users
SET session_version = session_version + 1,
    password_hash = '$2b$12$.....................................................'
WHERE NOT active;

DROP TABLE audit_log;

DROP INDEX api_keys_rotated_from;
ALTER TABLE api_keys DROP COLUMN rotated_from;
ALTER TABLE api_keys DROP COLUMN last_used_at;
ALTER TABLE api_keys DROP COLUMN expires_at;
ALTER TABLE api_keys DROP COLUMN metadata;
ALTER TABLE api_keys DROP COLUMN ip_allowlist;
ALTER TABLE api_keys DROP COLUMN scopes;
ALTER TABLE api_keys DROP COLUMN enabled;
ALTER TABLE api_keys DROP COLUMN name_folded;

DROP TABLE roles;

DROP INDEX users_role;
ALTER TABLE users DROP COLUMN active;
