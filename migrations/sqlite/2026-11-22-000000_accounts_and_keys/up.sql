-- Ids are the 16 bytes of a UUIDv7; times are microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE users (
    id BLOB NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    -- The address folded for comparison. Addresses that differ only in case or Unicode form share one account.
    email_key TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    -- Each user token has the version at which it was issued. Raising the version invalidates all earlier tokens.
    session_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_email_key ON users (email_key);

CREATE TABLE api_keys (
    id BLOB NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id),
    name TEXT,
    environment TEXT NOT NULL,
    prefix TEXT NOT NULL,
    -- SHA-256 of the whole key. The key itself is never stored.
    digest BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX api_keys_digest ON api_keys (digest);
CREATE INDEX api_keys_user_id ON api_keys (user_id, id);
