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
