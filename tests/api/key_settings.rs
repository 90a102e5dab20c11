//! What can be chosen of a key, and changed: `POST /api-keys`, `PATCH /api-keys/{id}`.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, TestServer, path_of},
};

const DAY: u64 = 24 * 3600;

fn use_of(server: &TestServer, key: &Value) -> Client {
    let key = key["api_key"].as_str().unwrap();
    server.anonymous().with_key(key)
}

/// RFC 3339, this many seconds from now by the service's clock.
fn time(server: &TestServer, seconds: i64) -> String {
    let later = server.clock.now().plus_seconds(seconds);
    serde_json::to_value(later)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

on_both_databases! {
    a_key_has_all_that_was_chosen,
    what_was_not_chosen_has_its_default,
    a_patch_changes_what_it_names_and_nothing_else,
    null_clears,
    metadata_is_merged,
    two_patches_at_once_lose_neither_of_them,
    what_is_not_acceptable_is_refused_and_changes_nothing,
    boundary_values_are_on_the_stated_side,
    nothing_else_can_be_set,
    a_switched_off_key_is_refused_until_it_is_switched_on,
    a_key_ends_at_the_moment_that_it_says,
    a_key_that_has_ended_cannot_be_changed,
    somebody_elses_key_cannot_be_changed_and_tells_nothing,
    only_an_admin_gives_scopes_of_this_services_own,
    a_patch_has_a_media_type,
}

fn a_key_has_all_that_was_chosen(server: TestServer) {
    let ada = server.user("ada@example.com");
    let end = time(&server, 3600);
    let chosen = json!({
        "name": "billing",
        "environment": "test",
        "scopes": ["orders:read", "orders:read", "invoices:*"],
        "expires_at": end,
        "ip_allowlist": ["203.0.113.9/24", "::ffff:198.51.100.7", "2001:DB8::1"],
        "metadata": {"team": "billing", "tags": [1, null, {"x": "\u{0}\u{fc}"}]},
    });
    let created = ada.create_key_with(&chosen);
    let stored = ada.get(&path_of(&created)).json();
    for key in [created, stored] {
        assert_eq!(key["name"], "billing");
        assert_eq!(key["environment"], "test");
        assert_eq!(key["scopes"], json!(["orders:read", "invoices:*"]));
        assert_eq!(key["expires_at"], json!(end));
        let canonical = json!(["203.0.113.0/24", "198.51.100.7/32", "2001:db8::1/128"]);
        assert_eq!(key["ip_allowlist"], canonical);
        assert_eq!(key["metadata"], chosen["metadata"]);
        assert_eq!(key["enabled"], true);
        assert_eq!(key["status"], "active");
    }
    let seconds = ada.create_key_with(&json!({"expires_in_seconds": 60}));
    let end = seconds["expires_at"].as_str().unwrap();
    assert!(
        *end > *time(&server, 50) && *end < *time(&server, 61),
        "{end}"
    );
    // Another offset is the same moment.
    let offset = ada.create_key_with(&json!({"expires_at": "2030-01-01T01:30:00+01:30"}));
    assert_eq!(offset["expires_at"], "2030-01-01T00:00:00.000000Z");
}

fn what_was_not_chosen_has_its_default(server: TestServer) {
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

fn a_patch_changes_what_it_names_and_nothing_else(server: TestServer) {
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

fn null_clears(server: TestServer) {
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
    assert_eq!(use_of(&server, &key).get("/protected").status, 200);
}

fn metadata_is_merged(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"metadata": {"a": {"b": 1, "c": 2}, "d": [1]}}));
    let path = path_of(&key);
    let patch = json!({"metadata": {"a": {"b": null, "e": 3}, "d": "x", "f": {"g": null}}});
    let merged = json!({"a": {"c": 2, "e": 3}, "d": "x", "f": {}});
    assert_eq!(ada.patch_json(&path, &patch).json()["metadata"], merged);
    assert_eq!(ada.get(&path).json()["metadata"], merged);
    // What fits alone may be too much together.
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

fn two_patches_at_once_lose_neither_of_them(server: TestServer) {
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

/// A body that is refused, and where.
fn refused() -> Vec<(Value, &'static str)> {
    let scopes = |list: &[&str]| json!({"scopes": list});
    vec![
        (json!({"scopes": "orders:read"}), "/scopes"),
        (json!({"scopes": [1]}), "/scopes/0"),
        (scopes(&["a", "orders:"]), "/scopes/1"),
        (scopes(&[":a"]), "/scopes/0"),
        (scopes(&[""]), "/scopes/0"),
        (scopes(&["a b"]), "/scopes/0"),
        (scopes(&["a*"]), "/scopes/0"),
        (scopes(&["*:a"]), "/scopes/0"),
        (scopes(&["caf\u{e9}"]), "/scopes/0"),
        (scopes(&[&"a".repeat(65)]), "/scopes/0"),
        (json!({"scopes": vec!["a"; 65]}), "/scopes"),
        (json!({"ip_allowlist": "10.0.0.0/8"}), "/ip_allowlist"),
        (json!({"ip_allowlist": ["10.0.0.0/33"]}), "/ip_allowlist/0"),
        (
            json!({"ip_allowlist": ["::1", "10.0.0.0/-1"]}),
            "/ip_allowlist/1",
        ),
        (json!({"ip_allowlist": ["localhost"]}), "/ip_allowlist/0"),
        (json!({"ip_allowlist": [""]}), "/ip_allowlist/0"),
        (
            json!({"ip_allowlist": vec!["10.0.0.1"; 65]}),
            "/ip_allowlist",
        ),
        (json!({"metadata": []}), "/metadata"),
        (json!({"metadata": "x"}), "/metadata"),
        (json!({"metadata": {"x": "y".repeat(4096)}}), "/metadata"),
        (json!({"expires_at": "tomorrow"}), "/expires_at"),
        (json!({"expires_at": ""}), "/expires_at"),
        (json!({"expires_at": 4_102_444_800_i64}), "/expires_at"),
        (json!({"expires_at": "2030-01-01"}), "/expires_at"),
        (json!({"expires_at": "2030-01-01T00:00:00"}), "/expires_at"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"expires_at": "0000-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"expires_at": "9999-12-31T23:59:59Z"}), "/expires_at"),
        (
            json!({"expires_at": "+99999-01-01T00:00:00Z"}),
            "/expires_at",
        ),
        (json!({"name": ""}), "/name"),
        (json!({"enabled": "yes"}), "/enabled"),
        (json!({"enabled": 1}), "/enabled"),
    ]
}

fn what_is_not_acceptable_is_refused_and_changes_nothing(server: TestServer) {
    let ada = server.user("ada@example.com");
    let path = path_of(&ada.create_key());
    let before = ada.get(&path).body;
    for (body, pointer) in refused() {
        let mut replies = vec![ada.patch_json(&path, &body)];
        // Of a new key it cannot be chosen.
        if pointer != "/enabled" {
            replies.push(ada.post_json("/api-keys", &body));
        }
        for reply in replies {
            let problem = reply.assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
    }
    assert_eq!(ada.get(&path).body, before);
    assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 1);
    // All that is wrong is told at once.
    let many = json!({"name": "", "expires_in_seconds": 0, "metadata": {"x": "y".repeat(4096)}});
    let problem = ada
        .post_json("/api-keys", &many)
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3, "{problem}");
}

fn boundary_values_are_on_the_stated_side(server: TestServer) {
    let ada = server.user("ada@example.com");
    let ten_years = 10 * 365 * 24 * 3600;
    for (seconds, status) in [
        ("1", 201),
        ("315360000", 201),
        ("0", 422),
        ("-1", 422),
        ("315360001", 422),
        ("9223372036854775807", 422),
        ("9223372036854775808", 422),
        ("-9223372036854775808", 422),
        ("18446744073709551616", 422),
        ("1e400", 422),
        ("-1e400", 422),
        ("1.5", 422),
        ("1.0", 422),
        ("\"5\"", 422),
        ("true", 422),
        ("[]", 422),
        ("{}", 422),
        ("null", 201),
    ] {
        let reply = ada.with("content-type", "application/json").send(
            "POST",
            "/api-keys",
            format!(r#"{{"expires_in_seconds": {seconds}}}"#),
        );
        assert_eq!(reply.status, status, "{seconds}: {reply:?}");
        if status == 422 {
            let problem = reply.assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], "/expires_in_seconds");
        }
    }
    // As dates, ten years are the calendar's.
    let in_ten_years = server.clock.now().plus_years(10);
    for (offset, status) in [(-60, 201), (60, 422)] {
        let at = serde_json::to_value(in_ten_years.plus_seconds(offset)).unwrap();
        assert_eq!(
            ada.post_json("/api-keys", &json!({"expires_at": at}))
                .status,
            status
        );
    }
    assert!(in_ten_years > server.clock.now().plus_seconds(ten_years));
    let both = json!({"expires_in_seconds": 60, "expires_at": time(&server, 60)});
    let problem = ada
        .post_json("/api-keys", &both)
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "/expires_in_seconds");
    // As large as it may be.
    let name = "\u{e9}".repeat(100);
    let scopes: Vec<_> = (0..64).map(|n| format!("{n:064}")).collect();
    let networks: Vec<_> = (0..64).map(|n| format!("10.0.{n}.0/24")).collect();
    // Two quotes, a colon and braces around each of these.
    let metadata = json!({"x": "y".repeat(4096 - r#"{"x":""}"#.len())});
    let key = ada.create_key_with(&json!({
        "name": name, "scopes": scopes, "ip_allowlist": networks, "metadata": metadata,
    }));
    assert_eq!(key["scopes"], json!(scopes));
    assert_eq!(key["ip_allowlist"], json!(networks));
    assert_eq!(key["metadata"], metadata);
}

fn nothing_else_can_be_set(server: TestServer) {
    let ada = server.user("ada@example.com");
    let path = path_of(&ada.create_key());
    let before = ada.get(&path).body;
    for member in [
        "id",
        "user_id",
        "prefix",
        "digest",
        "api_key",
        "status",
        "created_at",
        "revoked_at",
        "last_used_at",
        "rotated_from",
        "name_folded",
        "lineage",
        "role",
        "Name",
        "",
    ] {
        for reply in [
            ada.post_json("/api-keys", &json!({member: null})),
            ada.post_json("/api-keys", &json!({member: "x"})),
            ada.patch_json(&path, &json!({member: null})),
            ada.patch_json(&path, &json!({"name": "x", member: "x"})),
            ada.post_json(&format!("{path}/rotate"), &json!({member: "x"})),
        ] {
            let problem = reply.assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], format!("/{member}"));
        }
    }
    // What is chosen once stays, and what is changed cannot be chosen.
    ada.patch_json(&path, &json!({"environment": "test"}))
        .assert_problem(422, "validation_failed");
    ada.patch_json(&path, &json!({"expires_in_seconds": 5}))
        .assert_problem(422, "validation_failed");
    ada.post_json("/api-keys", &json!({"enabled": true}))
        .assert_problem(422, "validation_failed");
    assert_eq!(ada.get(&path).body, before);
}

fn a_switched_off_key_is_refused_until_it_is_switched_on(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = use_of(&server, &key);
    for _ in 0..2 {
        let off = ada.patch_json(&path_of(&key), &json!({"enabled": false}));
        assert_eq!(off.json()["status"], "disabled");
        caller
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
        let on = ada.patch_json(&path_of(&key), &json!({"enabled": true}));
        assert_eq!(on.json()["status"], "active");
        assert_eq!(caller.get("/protected").status, 200);
    }
}

fn a_key_ends_at_the_moment_that_it_says(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"expires_in_seconds": 30 * DAY}));
    let caller = use_of(&server, &key);
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

fn a_key_that_has_ended_cannot_be_changed(server: TestServer) {
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
        use_of(&server, key)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }
    // It can still be revoked, and is then.
    assert_eq!(ada.delete(&path_of(&expired)).json()["status"], "revoked");
}

fn somebody_elses_key_cannot_be_changed_and_tells_nothing(server: TestServer) {
    let ada = server.user("ada@example.com");
    let bob = server.user("bob@example.com");
    let key = ada.create_key();
    let path = path_of(&key);
    for body in [json!({"name": "mine"}), json!({"nmae": 1}), json!([])] {
        bob.patch_json(&path, &body)
            .assert_problem(404, "not_found");
        bob.post_json(&format!("{path}/rotate"), &body)
            .assert_problem(404, "not_found");
    }
    bob.send("PATCH", &path, "{")
        .assert_problem(404, "not_found");
    let id = bob.id();
    for other in ["x", &uuid::Uuid::now_v7().to_string(), &id] {
        bob.patch_json(&format!("/api-keys/{other}"), &json!({}))
            .assert_problem(404, "not_found");
        bob.post(&format!("/api-keys/{other}/rotate"))
            .assert_problem(404, "not_found");
    }
    assert_eq!(ada.get(&path).json()["name"], Value::Null);
    assert_eq!(use_of(&server, &key).get("/protected").status, 200);
}

fn only_an_admin_gives_scopes_of_this_services_own(server: TestServer) {
    let root = server.admin("root@example.com");
    let all = [
        "users:read",
        "users:write",
        "keys:read",
        "keys:write",
        "audit:read",
        "usage:read",
        "roles:write",
    ];
    let operator = server.operator(&root, "olga@example.com", &all);
    let ada = server.user("ada@example.com");
    for scope in ["keys:verify", "keys:*", "keys:a:b"] {
        let chosen = json!({"scopes": ["orders:read", scope]});
        for client in [&ada, &operator] {
            client
                .post_json("/api-keys", &chosen)
                .assert_problem(403, "permission_denied");
            let path = path_of(&client.create_key());
            client
                .patch_json(&path, &chosen)
                .assert_problem(403, "permission_denied");
        }
        let path = path_of(&root.create_key());
        assert_eq!(root.patch_json(&path, &chosen).status, 200);
        assert_eq!(root.post_json("/api-keys", &chosen).status, 201);
    }
    // These only look like it.
    ada.create_key_with(&json!({"scopes": ["keys", "keysx:a", "a:keys:b", "*"]}));

    // What somebody has keeps working, and can be kept, when they are no admin any more.
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
    let more = json!({"scopes": ["keys:verify", "keys:*"]});
    root.patch_json(&path_of(&key), &more)
        .assert_problem(403, "permission_denied");
}

fn a_patch_has_a_media_type(server: TestServer) {
    let ada = server.user("ada@example.com");
    let path = path_of(&ada.create_key());
    for (media_type, status) in [
        ("application/json", 200),
        ("application/merge-patch+json", 200),
        ("application/merge-patch+json; charset=utf-8", 200),
        ("application/json-patch+json", 415),
        ("text/plain", 415),
    ] {
        let reply = ada
            .with("content-type", media_type)
            .send("PATCH", &path, r#"{"name": "x"}"#);
        assert_eq!(reply.status, status, "{media_type}");
    }
    ada.send("PATCH", &path, "{}")
        .assert_problem(415, "unsupported_media_type");
    let patch = ada.with("content-type", "application/merge-patch+json");
    patch
        .send("PATCH", &path, "")
        .assert_problem(400, "invalid_json");
    patch
        .send("PATCH", &path, "[]")
        .assert_problem(422, "validation_failed");
    patch
        .send("PATCH", &path, "null")
        .assert_problem(422, "validation_failed");
    // That is not what a new key is made of.
    patch
        .send("POST", "/api-keys", "{}")
        .assert_problem(415, "unsupported_media_type");
}
