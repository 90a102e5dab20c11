//! Audit log: each change writes one event, and is rolled back if its event cannot be written.

use std::{collections::BTreeSet, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, PASSWORD, TestServer, path_of},
};

pub fn events(client: &Client, query: &str) -> Vec<Value> {
    let reply = client.get(&format!("/audit-log{query}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json().as_array().unwrap().clone()
}

/// Returns the newest event that this client may read.
pub fn newest_event(client: &Client) -> Value {
    events(client, "?limit=1")[0].clone()
}

on_both_databases! {
    every_change_writes_one_audit_event,
    request_without_a_change_writes_no_audit_event,
    throttled_logins_write_one_audit_event_per_series,
    command_line_change_is_recorded_with_its_origin,
    change_without_its_audit_event_is_rolled_back,
}

fn every_change_writes_one_audit_event(server: TestServer) {
    let root = server.admin("root@example.com");
    let count = || server.query("SELECT CAST(count(*) AS TEXT) AS text FROM audit_log")[0].clone();
    let mut previous: usize = count().parse().unwrap();
    // Asserts that exactly one event was added, and returns its details.
    let mut assert_event = |actor: &Client, action: &str, target: (&str, &Value)| {
        let current: usize = count().parse().unwrap();
        assert_eq!(current, previous + 1, "{action}");
        previous = current;
        let event = newest_event(&root);
        assert_eq!(event["action"], action);
        assert_eq!(event["target_type"], target.0);
        assert_eq!(event["target_id"], *target.1);
        assert_eq!(event["actor_id"], json!(actor.id()), "{action}");
        assert_eq!(event["ip"], "127.0.0.1");
        assert_eq!(event["request_id"], "the-request");
        let members: BTreeSet<_> = event
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "id",
            "at",
            "actor_id",
            "action",
            "target_type",
            "target_id",
            "ip",
            "request_id",
            "details",
        ];
        assert_eq!(members, BTreeSet::from(expected));
        event["details"].clone()
    };
    let with_request_id = server.anonymous().with("x-request-id", "the-request");
    let ada = with_request_id.sign_up("ada@example.com");
    let ada_id = json!(ada.id());
    assert_eq!(
        assert_event(&ada, "user.signed_up", ("user", &ada_id)),
        json!({})
    );

    let settings = json!({"name": "n", "scopes": ["a"], "metadata": {"m": 1}});
    let key = ada.create_key_with(&settings);
    let details = assert_event(&ada, "api_key.created", ("api_key", &key["id"]));
    assert_eq!(details["scopes"], json!(["a"]));
    assert_eq!(details["environment"], "live");

    let patch = json!({"name": "n", "scopes": ["b"], "enabled": false, "metadata": {"m": null}});
    ada.patch_json(&path_of(&key), &patch);
    let details = assert_event(&ada, "api_key.updated", ("api_key", &key["id"]));
    assert_eq!(
        details,
        json!({"changes": {
            "enabled": {"from": true, "to": false},
            "scopes": {"from": ["a"], "to": ["b"]},
            "metadata": {"from": {"m": 1}, "to": {}},
        }})
    );

    let rotated = ada.post_json(
        &format!("{}/rotate", path_of(&key)),
        &json!({"grace_period_seconds": 60}),
    );
    let details = assert_event(&ada, "api_key.rotated", ("api_key", &key["id"]));
    assert_eq!(
        details,
        json!({"successor_id": rotated.json()["id"], "grace_period_seconds": 60})
    );

    ada.delete(&path_of(&key));
    assert_eq!(
        assert_event(&ada, "api_key.revoked", ("api_key", &key["id"])),
        json!({})
    );

    let root_with_request_id = root.with("x-request-id", "the-request");
    root_with_request_id.delete(&format!("/admin{}", path_of(&rotated.json())));
    assert_event(&root, "api_key.revoked", ("api_key", &rotated.json()["id"]));

    let permissions = |list: &[&str]| json!({"permissions": list});
    root_with_request_id.put_json("/admin/roles/support", &permissions(&["users:read"]));
    let details = assert_event(&root, "role.created", ("role", &json!("support")));
    assert_eq!(details, permissions(&["users:read"]));
    root_with_request_id.put_json("/admin/roles/support", &permissions(&[]));
    let details = assert_event(&root, "role.updated", ("role", &json!("support")));
    assert_eq!(
        details,
        json!({"changes": {"permissions": {"from": ["users:read"], "to": []}}})
    );

    let user = format!("/admin/users/{}", ada.id());
    root_with_request_id.patch_json(&user, &json!({"role": "support"}));
    let details = assert_event(&root, "user.updated", ("user", &ada_id));
    assert_eq!(
        details,
        json!({"changes": {"role": {"from": "member", "to": "support"}}})
    );
    root_with_request_id.patch_json(&user, &json!({"role": "member"}));
    assert_event(&root, "user.updated", ("user", &ada_id));
    root_with_request_id.delete("/admin/roles/support");
    assert_event(&root, "role.deleted", ("role", &json!("support")));

    let change = json!({"current_password": PASSWORD, "new_password": "the second password"});
    ada.post_json("/auth/password", &change);
    let ada = with_request_id.log_in("ada@example.com", "the second password");
    assert_eq!(
        assert_event(&ada, "user.password_changed", ("user", &ada_id)),
        json!({})
    );
    ada.post("/auth/logout");
    let ada = with_request_id.log_in("ada@example.com", "the second password");
    assert_eq!(
        assert_event(&ada, "user.logged_out", ("user", &ada_id)),
        json!({})
    );

    root_with_request_id.patch_json(&user, &json!({"active": false}));
    let details = assert_event(&root, "user.updated", ("user", &ada_id));
    assert_eq!(
        details,
        json!({"changes": {"active": {"from": true, "to": false}}})
    );
}

fn request_without_a_change_writes_no_audit_event(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"name": "n"}));
    ada.delete(&path_of(&ada.create_key()));
    root.put_json(
        "/admin/roles/support",
        &json!({"permissions": ["users:read"]}),
    );
    let before = events(&root, "");
    let revoked = &ada.get("/api-keys?status=revoked").json()[0];
    ada.delete(&path_of(revoked));
    root.delete(&format!("/admin{}", path_of(revoked)));
    ada.patch_json(
        &path_of(&key),
        &json!({"name": "n", "enabled": true, "metadata": {"x": null}}),
    );
    ada.patch_json(&path_of(&key), &json!({"scopes": ["orders:"]}));
    root.patch_json(
        &format!("/admin/users/{}", ada.id()),
        &json!({"role": "member", "active": true}),
    );
    root.put_json(
        "/admin/roles/support",
        &json!({"permissions": ["users:read"]}),
    );
    root.put_json("/admin/roles/admin", &json!({"permissions": []}));
    ada.put_json("/admin/roles/mine", &json!({"permissions": []}));
    server.anonymous().log_in("ada@example.com", PASSWORD);
    assert!(
        server
            .run_admin(&["grant", "root@example.com"])
            .status
            .success()
    );
    assert_eq!(events(&root, ""), before);
}

fn throttled_logins_write_one_audit_event_per_series(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let ada_id = json!(ada.id());
    let attempt = |email: &str| {
        let body = json!({"email": email, "password": "a wrong password"});
        server.anonymous().post_json("/auth/login", &body).status
    };
    for (email, target) in [
        ("ada@example.com", ada_id),
        ("nobody@example.com", Value::Null),
    ] {
        for _ in 0..10 {
            assert_eq!(attempt(email), 401);
        }
        assert_ne!(newest_event(&root)["action"], "user.login_throttled");
        for _ in 0..5 {
            assert_eq!(attempt(email), 429);
        }
        let throttled = events(&root, "?action=user.login_throttled");
        assert_eq!(throttled[0]["target_id"], target);
        assert_eq!(throttled[0]["target_type"], "user");
        assert_eq!(throttled[0]["actor_id"], Value::Null);
        assert_eq!(throttled[0]["ip"], "127.0.0.1");
        root.post_json("/api-keys", &json!({}));
    }
    assert_eq!(events(&root, "?action=user.login_throttled").len(), 2);
    assert!(!root.get("/audit-log").body.contains("nobody@"));
    // A new series of failures writes another event.
    server.advance(Duration::from_secs(15 * 60));
    for _ in 0..10 {
        assert_eq!(attempt("ada@example.com"), 401);
    }
    assert_eq!(attempt("ada@example.com"), 429);
    assert_eq!(events(&root, "?action=user.login_throttled").len(), 3);
    // Concurrent failures write one event, too.
    server.user("bob@example.com");
    let threads: Vec<_> = (0..30)
        .map(|_| {
            let client = server.anonymous();
            let body = json!({"email": "bob@example.com", "password": "a wrong password"});
            thread::spawn(move || client.post_json("/auth/login", &body).status)
        })
        .collect();
    let statuses: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let count = events(&root, "?action=user.login_throttled").len();
    assert_eq!(
        count,
        if statuses.contains(&429) { 4 } else { 3 },
        "{statuses:?}"
    );
    // Wrong current passwords with a token write an event, too. The token identifies the actor.
    let wrong_change = json!({"current_password": "wrong", "new_password": "another password"});
    ada.post_json("/auth/password", &wrong_change)
        .assert_problem(429, "too_many_attempts");
    server.advance(Duration::from_secs(15 * 60));
    for _ in 0..10 {
        ada.post_json("/auth/password", &wrong_change)
            .assert_problem(401, "invalid_credentials");
    }
    ada.post_json("/auth/password", &wrong_change)
        .assert_problem(429, "too_many_attempts");
    assert_eq!(newest_event(&root)["actor_id"], json!(ada.id()));
    // The owner of the account can read these events.
    assert_eq!(events(&ada, "?action=user.login_throttled").len(), 3);
}

fn command_line_change_is_recorded_with_its_origin(server: TestServer) {
    let root = server.admin("root@example.com");
    // The command is another process with a clock of its own: its event need not have the newest id.
    let newest_update = || events(&root, "?action=user.updated")[0].clone();
    let event = newest_update();
    assert_eq!(event["target_id"], json!(root.id()));
    for member in ["actor_id", "ip", "request_id"] {
        assert_eq!(event[member], Value::Null, "{member}");
    }
    let changes = json!({"role": {"from": "member", "to": "admin"}});
    assert_eq!(
        event["details"],
        json!({"changes": changes, "via": "command_line"})
    );
    server.admin("second@example.com");
    assert!(
        server
            .run_admin(&["revoke", "second@example.com"])
            .status
            .success()
    );
    assert_eq!(
        newest_update()["details"]["changes"]["role"]["to"],
        "member"
    );
}

fn change_without_its_audit_event_is_rolled_back(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    let (user, role) = (format!("/admin/users/{}", ada.id()), "/admin/roles/support");
    let before = (
        ada.get("/api-keys").body,
        root.get("/admin/users").body,
        root.get("/admin/roles").body,
    );

    server.execute("ALTER TABLE audit_log RENAME TO elsewhere");
    let password = json!({"current_password": PASSWORD, "new_password": "the second password"});
    let signup = json!({"email": "eve@example.com", "password": PASSWORD});
    for reply in [
        ada.post("/api-keys"),
        ada.patch_json(&path_of(&key), &json!({"enabled": false})),
        ada.post(&format!("{}/rotate", path_of(&key))),
        ada.delete(&path_of(&key)),
        ada.post("/auth/logout"),
        ada.post_json("/auth/password", &password),
        root.delete(&format!("/admin{}", path_of(&key))),
        root.patch_json(&user, &json!({"active": false})),
        root.put_json(role, &json!({"permissions": []})),
        server.anonymous().post_json("/auth/signup", &signup),
    ] {
        reply.assert_problem(503, "unavailable");
    }
    assert!(
        !server
            .run_admin(&["grant", "ada@example.com"])
            .status
            .success()
    );
    server.execute("ALTER TABLE elsewhere RENAME TO audit_log");

    let after = (
        ada.get("/api-keys").body,
        root.get("/admin/users").body,
        root.get("/admin/roles").body,
    );
    assert_eq!(after, before);
    assert_eq!(caller.get("/protected").status, 200);
    server.anonymous().log_in("ada@example.com", PASSWORD);
}
