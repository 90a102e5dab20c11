//! Reverting and reapplying migrations on a database with data.

use diesel::{Connection as _, PgConnection, SqliteConnection};
use diesel_migrations::{FileBasedMigrations, MigrationHarness as _};
use serde_json::json;

use crate::{
    on_both_databases,
    support::{PASSWORD, TestServer, path_of},
};

/// Reverts the last four migrations, or applies them again if `forward`.
fn migrate(server: &TestServer, forward: bool) {
    macro_rules! run {
        ($conn:expr, $folder:literal) => {{
            let source = FileBasedMigrations::from_path($folder).unwrap();
            let mut conn = $conn.unwrap();
            for _ in 0..4 {
                if forward {
                    conn.run_next_migration(source.clone()).unwrap();
                } else {
                    conn.revert_last_migration(source.clone()).unwrap();
                }
            }
        }};
    }
    match server.database_url.strip_prefix("sqlite://") {
        Some(file) => run!(SqliteConnection::establish(file), "migrations/sqlite"),
        None => run!(
            PgConnection::establish(&server.database_url),
            "migrations/postgres"
        ),
    }
}

on_both_databases! {
    reverting_migrations_revokes_keys_whose_restrictions_would_be_lost,
}

fn reverting_migrations_revokes_keys_whose_restrictions_would_be_lost(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let bob = server.user("bob@example.com");
    let kept = ada.create_key_with(&json!({"name": "Kept", "metadata": {"a": 1}}));
    let disabled = ada.create_key();
    ada.patch_json(&path_of(&disabled), &json!({"enabled": false}));
    let restricted = [
        disabled,
        ada.create_key_with(&json!({"expires_in_seconds": 3600})),
        ada.create_key_with(&json!({"ip_allowlist": ["127.0.0.1"]})),
        ada.create_key_with(&json!({"scopes": ["orders:read"]})),
        ada.create_key_with(&json!({"rate_limit": {"limit": 1000, "window_seconds": 1}})),
        ada.create_key_with(&json!({"quota": {"limit": 1000, "period": "total"}})),
        bob.create_key(),
    ];
    root.change_user(&bob.id(), &json!({"active": false}));

    migrate(&server, false);
    let unrevoked = "SELECT name AS text FROM api_keys WHERE revoked_at IS NULL";
    assert_eq!(server.query(unrevoked), ["Kept"]);
    migrate(&server, true);

    assert_eq!(server.caller(&kept).get("/protected").status, 200);
    let key = ada.get("/api-keys?q=kept").json()[0].clone();
    assert_eq!(key["id"], kept["id"]);
    assert_eq!(
        (&key["enabled"], &key["metadata"]),
        (&json!(true), &json!({}))
    );
    for key in &restricted {
        server
            .caller(key)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }
    server.anonymous().log_in("ada@example.com", PASSWORD);
    let bob = json!({"email": "bob@example.com", "password": PASSWORD});
    let rejected = server.anonymous().post_json("/auth/login", &bob);
    rejected.assert_problem(401, "invalid_credentials");
}
