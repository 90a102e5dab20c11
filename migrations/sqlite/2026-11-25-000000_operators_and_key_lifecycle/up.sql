ALTER TABLE users ADD COLUMN active BOOLEAN NOT NULL DEFAULT TRUE;
CREATE INDEX users_role ON users (role);

CREATE TABLE roles (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- Names with blanks in between.
    permissions TEXT NOT NULL,
    built_in BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX roles_name ON roles (name);
INSERT INTO roles (id, name, permissions, built_in) VALUES
    (x'00000000000070008000000000000001', 'admin',
     'users:read users:write keys:read keys:write audit:read usage:read roles:write', TRUE),
    (x'00000000000070008000000000000002', 'member', '', TRUE);

-- The name folded for searching.
ALTER TABLE api_keys ADD COLUMN name_folded TEXT;
ALTER TABLE api_keys ADD COLUMN enabled BOOLEAN NOT NULL DEFAULT TRUE;
-- Scopes and networks with blanks in between.
ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN ip_allowlist TEXT NOT NULL DEFAULT '';
-- A JSON object.
ALTER TABLE api_keys ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE api_keys ADD COLUMN rotated_from BLOB REFERENCES api_keys (id);
-- What was known of names before: without the folding of letters beyond ASCII.
UPDATE api_keys SET name_folded = lower(name);
-- One successor for each key.
CREATE UNIQUE INDEX api_keys_rotated_from ON api_keys (rotated_from);

-- Rows are only ever added.
CREATE TABLE audit_log (
    id BLOB NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    -- No foreign keys: what happened stays true whatever becomes of those who took part.
    actor_id BLOB,
    -- Whose thing was changed: they may read of it too.
    owner_id BLOB,
    action TEXT NOT NULL,
    target_type TEXT NOT NULL,
    target_id TEXT,
    ip TEXT,
    request_id TEXT,
    -- A JSON object.
    details TEXT NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor_id ON audit_log (actor_id, id);
CREATE INDEX audit_log_owner_id ON audit_log (owner_id, id);
CREATE INDEX audit_log_target_id ON audit_log (target_id, id);
CREATE INDEX audit_log_action ON audit_log (action, id);
