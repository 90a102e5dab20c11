//! The audit log: every change tells of itself, or does not happen.

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

/// The newest event.
pub fn last(client: &Client) -> Value {
    events(client, "?limit=1")[0].clone()
}

on_both_databases! {
    every_change_writes_one_event,
    what_changes_nothing_writes_none,
    logins_that_are_refused_are_told_of_once,
    what_the_command_line_did_is_told_as_such,
    a_change_that_cannot_be_told_of_does_not_happen,
}

fn every_change_writes_one_event(server: TestServer) {
    let root = server.admin("root@example.com");
    let count = || server.query("SELECT CAST(count(*) AS TEXT) AS text FROM audit_log")[0].clone();
    let mut seen: usize = count().parse().unwrap();
    // Asserts that there is one more event, and answers it.
    let mut told = |who: &Client, action: &str, target: (&str, &Value)| {
        let now: usize = count().parse().unwrap();
        assert_eq!(now, seen + 1, "{action}");
        seen = now;
        let event = last(&root);
        assert_eq!(event["action"], action);
        assert_eq!(event["target_type"], target.0);
        assert_eq!(event["target_id"], *target.1);
        assert_eq!(event["actor_id"], json!(who.id()), "{action}");
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
    let anyone = server.anonymous().with("x-request-id", "the-request");
    let ada = anyone.sign_up("ada@example.com");
    let ada_id = json!(ada.id());
    assert_eq!(told(&ada, "user.signed_up", ("user", &ada_id)), json!({}));

    let chosen = json!({"name": "n", "scopes": ["a"], "metadata": {"m": 1}});
    let key = ada.create_key_with(&chosen);
    let details = told(&ada, "api_key.created", ("api_key", &key["id"]));
    assert_eq!(details["scopes"], json!(["a"]));
    assert_eq!(details["environment"], "live");

    let patch = json!({"name": "n", "scopes": ["b"], "enabled": false, "metadata": {"m": null}});
    ada.patch_json(&path_of(&key), &patch);
    let details = told(&ada, "api_key.updated", ("api_key", &key["id"]));
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
    let details = told(&ada, "api_key.rotated", ("api_key", &key["id"]));
    assert_eq!(
        details,
        json!({"successor_id": rotated.json()["id"], "grace_period_seconds": 60})
    );

    ada.delete(&path_of(&key));
    assert_eq!(
        told(&ada, "api_key.revoked", ("api_key", &key["id"])),
        json!({})
    );

    let named_root = root.with("x-request-id", "the-request");
    named_root.delete(&format!("/admin{}", path_of(&rotated.json())));
    told(&root, "api_key.revoked", ("api_key", &rotated.json()["id"]));

    let permissions = |list: &[&str]| json!({"permissions": list});
    named_root.put_json("/admin/roles/support", &permissions(&["users:read"]));
    let details = told(&root, "role.created", ("role", &json!("support")));
    assert_eq!(details, permissions(&["users:read"]));
    named_root.put_json("/admin/roles/support", &permissions(&[]));
    let details = told(&root, "role.updated", ("role", &json!("support")));
    assert_eq!(
        details,
        json!({"changes": {"permissions": {"from": ["users:read"], "to": []}}})
    );

    let user = format!("/admin/users/{}", ada.id());
    named_root.patch_json(&user, &json!({"role": "support"}));
    let details = told(&root, "user.updated", ("user", &ada_id));
    assert_eq!(
        details,
        json!({"changes": {"role": {"from": "member", "to": "support"}}})
    );
    named_root.patch_json(&user, &json!({"role": "member"}));
    told(&root, "user.updated", ("user", &ada_id));
    named_root.delete("/admin/roles/support");
    told(&root, "role.deleted", ("role", &json!("support")));

    let change = json!({"current_password": PASSWORD, "new_password": "the second password"});
    ada.post_json("/auth/password", &change);
    let ada = anyone.log_in("ada@example.com", "the second password");
    assert_eq!(
        told(&ada, "user.password_changed", ("user", &ada_id)),
        json!({})
    );
    ada.post("/auth/logout");
    let ada = anyone.log_in("ada@example.com", "the second password");
    assert_eq!(told(&ada, "user.logged_out", ("user", &ada_id)), json!({}));

    named_root.patch_json(&user, &json!({"active": false}));
    let details = told(&root, "user.updated", ("user", &ada_id));
    assert_eq!(
        details,
        json!({"changes": {"active": {"from": true, "to": false}}})
    );
}

fn what_changes_nothing_writes_none(server: TestServer) {
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

fn logins_that_are_refused_are_told_of_once(server: TestServer) {
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
        assert_ne!(last(&root)["action"], "user.login_throttled");
        for _ in 0..5 {
            assert_eq!(attempt(email), 429);
        }
        let told = events(&root, "?action=user.login_throttled");
        assert_eq!(told[0]["target_id"], target);
        assert_eq!(told[0]["target_type"], "user");
        assert_eq!(told[0]["actor_id"], Value::Null);
        assert_eq!(told[0]["ip"], "127.0.0.1");
        root.post_json("/api-keys", &json!({}));
    }
    assert_eq!(events(&root, "?action=user.login_throttled").len(), 2);
    assert!(!root.get("/audit-log").body.contains("nobody@"));
    // A new series is told of again.
    server.advance(Duration::from_secs(15 * 60));
    for _ in 0..10 {
        assert_eq!(attempt("ada@example.com"), 401);
    }
    assert_eq!(attempt("ada@example.com"), 429);
    assert_eq!(events(&root, "?action=user.login_throttled").len(), 3);
    // Also where they come all at once.
    server.user("bob@example.com");
    let threads: Vec<_> = (0..30)
        .map(|_| {
            let client = server.anonymous();
            let body = json!({"email": "bob@example.com", "password": "a wrong password"});
            thread::spawn(move || client.post_json("/auth/login", &body).status)
        })
        .collect();
    let statuses: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let told = events(&root, "?action=user.login_throttled").len();
    assert_eq!(
        told,
        if statuses.contains(&429) { 4 } else { 3 },
        "{statuses:?}"
    );
    // So is guessing with a token, of whom is known whose it is.
    let guess = json!({"current_password": "wrong", "new_password": "another password"});
    ada.post_json("/auth/password", &guess)
        .assert_problem(429, "too_many_attempts");
    server.advance(Duration::from_secs(15 * 60));
    for _ in 0..10 {
        ada.post_json("/auth/password", &guess)
            .assert_problem(401, "invalid_credentials");
    }
    ada.post_json("/auth/password", &guess)
        .assert_problem(429, "too_many_attempts");
    assert_eq!(last(&root)["actor_id"], json!(ada.id()));
    // Its owner reads of it.
    assert_eq!(events(&ada, "?action=user.login_throttled").len(), 3);
}

fn what_the_command_line_did_is_told_as_such(server: TestServer) {
    let root = server.admin("root@example.com");
    // Ids of another process, whose clock is another, need not come last.
    let last = || events(&root, "?action=user.updated")[0].clone();
    let event = last();
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
    assert_eq!(last()["details"]["changes"]["role"]["to"], "member");
}

fn a_change_that_cannot_be_told_of_does_not_happen(server: TestServer) {
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
