ALTER TABLE users ADD COLUMN active BOOLEAN NOT NULL DEFAULT TRUE;
CREATE INDEX users_role ON users (role);

CREATE TABLE roles (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- Names, separated by spaces.
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
-- Scopes and networks, each list separated by spaces.
ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN ip_allowlist TEXT NOT NULL DEFAULT '';
-- A JSON object.
ALTER TABLE api_keys ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE api_keys ADD COLUMN rotated_from BLOB REFERENCES api_keys (id);
-- Folds existing names as far as SQL can: letters beyond ASCII are not folded.
UPDATE api_keys SET name_folded = lower(name);
-- Each key has at most one successor.
CREATE UNIQUE INDEX api_keys_rotated_from ON api_keys (rotated_from);

-- Rows are never changed or deleted.
CREATE TABLE audit_log (
    id BLOB NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    -- No foreign keys: entries must outlive the users and keys that they refer to.
    actor_id BLOB,
    -- Owner of the changed object, who may read the entry too.
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
