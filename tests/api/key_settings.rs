//! Settings of a key, on creation and by a patch: `POST /api-keys`, `PATCH /api-keys/{id}`.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{PERMISSIONS, TestServer, path_of},
};

const DAY: u64 = 24 * 3600;

/// Returns the time this many seconds from now by the service's clock, in RFC 3339.
pub fn time(server: &TestServer, seconds: i64) -> String {
    let later = server.clock.now().plus_seconds(seconds);
    serde_json::to_value(later)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

on_both_databases! {
    created_key_has_every_requested_setting,
    omitted_key_settings_have_their_defaults,
    patch_changes_only_the_settings_that_it_names,
    null_in_a_patch_clears_the_setting,
    metadata_in_a_patch_is_merged,
    concurrent_patches_of_a_key_lose_no_change,
    disabled_key_is_rejected_until_it_is_enabled,
    key_is_rejected_from_its_expiry_on,
    revoked_or_expired_key_cannot_be_changed,
    reserved_scopes_are_granted_by_admins_only,
}

fn created_key_has_every_requested_setting(server: TestServer) {
    let ada = server.user("ada@example.com");
    let expires_at = time(&server, 3600);
    let settings = json!({
        "name": "billing",
        "environment": "test",
        "scopes": ["orders:read", "orders:read", "invoices:*"],
        "expires_at": expires_at,
        "ip_allowlist": ["203.0.113.9/24", "::ffff:198.51.100.7", "2001:DB8::1"],
        "metadata": {"team": "billing", "tags": [1, null, {"x": "\u{0}\u{fc}"}]},
    });
    let created = ada.create_key_with(&settings);
    let stored = ada.get(&path_of(&created)).json();
    for key in [created, stored] {
        assert_eq!(key["name"], "billing");
        assert_eq!(key["environment"], "test");
        assert_eq!(key["scopes"], json!(["orders:read", "invoices:*"]));
        assert_eq!(key["expires_at"], json!(expires_at));
        let canonical = json!(["203.0.113.0/24", "198.51.100.7/32", "2001:db8::1/128"]);
        assert_eq!(key["ip_allowlist"], canonical);
        assert_eq!(key["metadata"], settings["metadata"]);
        assert_eq!(key["enabled"], true);
        assert_eq!(key["status"], "active");
    }
    let seconds = ada.create_key_with(&json!({"expires_in_seconds": 60}));
    let expiry = seconds["expires_at"].as_str().unwrap();
    assert!(
        *expiry > *time(&server, 50) && *expiry < *time(&server, 61),
        "{expiry}"
    );
    // A time with an offset is converted to UTC.
    let offset = ada.create_key_with(&json!({"expires_at": "2030-01-01T01:30:00+01:30"}));
    assert_eq!(offset["expires_at"], "2030-01-01T00:00:00.000000Z");
}

fn omitted_key_settings_have_their_defaults(server: TestServer) {
    let key = server.user("ada@example.com").create_key();
    for (member, expected) in [
        ("enabled", json!(true)),
        ("scopes", json!([])),
        ("ip_allowlist", json!([])),
        ("metadata", json!({})),
        ("expires_at", Value::Null),
        ("last_used_at", Value::Null),
        ("rotated_from", Value::Null),
    ] {
        assert_eq!(key[member], expected, "{member}");
    }
}

fn patch_changes_only_the_settings_that_it_names(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({
        "name": "before", "scopes": ["a"], "ip_allowlist": ["10.0.0.0/8"],
        "metadata": {"a": 1}, "expires_in_seconds": 3600,
    }));
    let path = path_of(&key);
    let mut expected = ada.get(&path).json();
    for (member, value) in [
        ("name", json!("after")),
        ("enabled", json!(false)),
        ("scopes", json!(["b", "c:*"])),
        ("expires_at", json!("2030-01-01T00:00:00.000000Z")),
        ("ip_allowlist", json!(["192.0.2.0/24"])),
        ("metadata", json!({"a": 2})),
    ] {
        let reply = ada.patch_json(&path, &json!({member: value}));
        assert_eq!(reply.status, 200, "{reply:?}");
        expected[member] = value;
        if member == "enabled" {
            expected["status"] = json!("disabled");
        }
        assert_eq!(reply.json(), expected);
        assert_eq!(ada.get(&path).json(), expected);
    }
    let all = json!({"name": "all", "enabled": true, "scopes": []});
    let reply = ada.patch_json(&path, &all).json();
    assert_eq!(
        (&reply["name"], &reply["status"]),
        (&json!("all"), &json!("active"))
    );
    assert_eq!(ada.patch_json(&path, &json!({})).json(), reply);
}

fn null_in_a_patch_clears_the_setting(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({
        "name": "x", "scopes": ["a"], "ip_allowlist": ["10.0.0.0/8"],
        "metadata": {"a": 1}, "expires_in_seconds": 60,
    }));
    let path = path_of(&key);
    for (member, cleared) in [
        ("name", Value::Null),
        ("scopes", json!([])),
        ("expires_at", Value::Null),
        ("ip_allowlist", json!([])),
        ("metadata", json!({})),
    ] {
        let reply = ada.patch_json(&path, &json!({member: null}));
        assert_eq!(reply.json()[member], cleared, "{member}");
    }
    let problem = ada
        .patch_json(&path, &json!({"enabled": null}))
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "/enabled");
    server.advance(Duration::from_secs(61));
    assert_eq!(server.caller(&key).get("/protected").status, 200);
}

fn metadata_in_a_patch_is_merged(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"metadata": {"a": {"b": 1, "c": 2}, "d": [1]}}));
    let path = path_of(&key);
    let patch = json!({"metadata": {"a": {"b": null, "e": 3}, "d": "x", "f": {"g": null}}});
    let merged = json!({"a": {"c": 2, "e": 3}, "d": "x", "f": {}});
    assert_eq!(ada.patch_json(&path, &patch).json()["metadata"], merged);
    assert_eq!(ada.get(&path).json()["metadata"], merged);
    // Metadata that fits alone may be too large after the merge.
    let half = "x".repeat(2500);
    assert_eq!(
        ada.patch_json(&path, &json!({"metadata": {"h": half}}))
            .status,
        200
    );
    let problem = ada
        .patch_json(&path, &json!({"metadata": {"i": half}}))
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "/metadata");
}

fn concurrent_patches_of_a_key_lose_no_change(server: TestServer) {
    let ada = server.user("ada@example.com");
    let path = path_of(&ada.create_key());
    let patches: Vec<_> = (0..8)
        .map(|n| json!({"metadata": {format!("m{n}"): n}}))
        .chain([
            json!({"name": "n"}),
            json!({"scopes": ["s"]}),
            json!({"ip_allowlist": ["10.0.0.0/8"]}),
            json!({"enabled": false}),
        ])
        .collect();
    let threads: Vec<_> = patches
        .into_iter()
        .map(|patch| {
            let (ada, path) = (ada.clone(), path.clone());
            thread::spawn(move || assert_eq!(ada.patch_json(&path, &patch).status, 200))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let key = ada.get(&path).json();
    let all: Value = (0..8).map(|n| (format!("m{n}"), json!(n))).collect();
    assert_eq!(key["metadata"], all);
    assert_eq!(key["name"], "n");
    assert_eq!(key["scopes"], json!(["s"]));
    assert_eq!(key["ip_allowlist"], json!(["10.0.0.0/8"]));
    assert_eq!(key["enabled"], false);
}

fn disabled_key_is_rejected_until_it_is_enabled(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server.caller(&key);
    for _ in 0..2 {
        let disabled = ada.patch_json(&path_of(&key), &json!({"enabled": false}));
        assert_eq!(disabled.json()["status"], "disabled");
        caller
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
        let enabled = ada.patch_json(&path_of(&key), &json!({"enabled": true}));
        assert_eq!(enabled.json()["status"], "active");
        assert_eq!(caller.get("/protected").status, 200);
    }
}

fn key_is_rejected_from_its_expiry_on(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"expires_in_seconds": 30 * DAY}));
    let caller = server.caller(&key);
    server.advance(Duration::from_secs(30 * DAY - 3500));
    let ada = server
        .anonymous()
        .log_in("ada@example.com", crate::support::PASSWORD);
    server.advance(Duration::from_secs(3500 - 10));
    assert_eq!(caller.get("/protected").status, 200);
    assert_eq!(ada.get(&path_of(&key)).json()["status"], "active");
    server.advance(Duration::from_secs(10));
    caller
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    assert_eq!(ada.get(&path_of(&key)).json()["status"], "expired");
}

fn revoked_or_expired_key_cannot_be_changed(server: TestServer) {
    let ada = server.user("ada@example.com");
    let revoked = ada.create_key();
    ada.delete(&path_of(&revoked));
    let expired = ada.create_key_with(&json!({"expires_in_seconds": 60}));
    server.advance(Duration::from_secs(60));
    for key in [&revoked, &expired] {
        let path = path_of(key);
        let before = ada.get(&path).body;
        for patch in [
            json!({"expires_at": null}),
            json!({"expires_at": time(&server, 60)}),
            json!({"enabled": true}),
            json!({"name": "x"}),
            json!({}),
        ] {
            ada.patch_json(&path, &patch)
                .assert_problem(409, "conflict");
        }
        ada.post(&format!("{path}/rotate"))
            .assert_problem(409, "conflict");
        assert_eq!(ada.get(&path).body, before);
        server
            .caller(key)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }
    // An expired key can still be revoked.
    assert_eq!(ada.delete(&path_of(&expired)).json()["status"], "revoked");
}

fn reserved_scopes_are_granted_by_admins_only(server: TestServer) {
    let root = server.admin("root@example.com");
    let operator = server.operator(&root, "olga@example.com", &PERMISSIONS);
    let ada = server.user("ada@example.com");
    for scope in ["keys:verify", "keys:*", "keys:a:b"] {
        let settings = json!({"scopes": ["orders:read", scope]});
        for client in [&ada, &operator] {
            client
                .post_json("/api-keys", &settings)
                .assert_problem(403, "permission_denied");
            let path = path_of(&client.create_key());
            client
                .patch_json(&path, &settings)
                .assert_problem(403, "permission_denied");
        }
        let path = path_of(&root.create_key());
        assert_eq!(root.patch_json(&path, &settings).status, 200);
        assert_eq!(root.post_json("/api-keys", &settings).status, 201);
    }
    // These scopes only resemble reserved ones.
    ada.create_key_with(&json!({"scopes": ["keys", "keysx:a", "a:keys:b", "*"]}));

    // A former admin keeps the reserved scopes of a key, also by a patch or a rotation, but cannot add another.
    let key = root.create_key_with(&json!({"scopes": ["keys:verify"]}));
    server.admin("second@example.com");
    assert!(
        server
            .run_admin(&["revoke", "root@example.com"])
            .status
            .success()
    );
    let kept = json!({"scopes": ["keys:verify", "a"]});
    assert_eq!(root.patch_json(&path_of(&key), &kept).status, 200);
    let rotated = root.post(&format!("{}/rotate", path_of(&key)));
    assert_eq!(
        (rotated.status, &rotated.json()["scopes"]),
        (201, &kept["scopes"])
    );
    let key = rotated.json();
    let more = json!({"scopes": ["keys:verify", "keys:*"]});
    root.patch_json(&path_of(&key), &more)
        .assert_problem(403, "permission_denied");
}
