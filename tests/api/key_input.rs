//! Invalid settings of a key: `POST /api-keys`, `PATCH /api-keys/{id}`.

use serde_json::{Value, json};

use crate::{
    key_settings::time,
    on_both_databases,
    support::{TestServer, path_of},
};

on_both_databases! {
    invalid_key_settings_are_rejected_and_change_nothing,
    key_settings_at_their_limits_are_accepted_and_beyond_rejected,
    metadata_nested_deeper_than_32_levels_is_rejected,
    unknown_and_read_only_members_are_rejected,
    key_of_another_user_cannot_be_changed_and_reveals_nothing,
    patch_without_a_supported_media_type_is_rejected,
    validation_message_says_what_would_be_accepted,
}

/// Returns bodies that are rejected, each with the pointer to its error.
fn invalid_bodies() -> Vec<(Value, &'static str)> {
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
        (json!({"scopes": [{"orders:read": null}]}), "/scopes/0"),
        (json!({"enabled": "yes"}), "/enabled"),
        (json!({"enabled": 1}), "/enabled"),
    ]
}

fn invalid_key_settings_are_rejected_and_change_nothing(server: TestServer) {
    let ada = server.user("ada@example.com");
    let path = path_of(&ada.create_key());
    let before = ada.get(&path).body;
    for (body, pointer) in invalid_bodies() {
        let mut replies = vec![ada.patch_json(&path, &body)];
        // `enabled` cannot be set on creation.
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
    // Every error is reported at once.
    let many = json!({"name": "", "expires_in_seconds": 0, "metadata": {"x": "y".repeat(4096)}});
    let problem = ada
        .post_json("/api-keys", &many)
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3, "{problem}");
}

fn key_settings_at_their_limits_are_accepted_and_beyond_rejected(server: TestServer) {
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
    // For `expires_at`, ten years are calendar years.
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
    // Every setting at its largest size.
    let name = "\u{e9}".repeat(100);
    let scopes: Vec<_> = (0..64).map(|n| format!("{n:064}")).collect();
    let networks: Vec<_> = (0..64).map(|n| format!("10.0.{n}.0/24")).collect();
    // 4096 bytes with the braces, the name, the colon and the quotes.
    let metadata = json!({"x": "y".repeat(4096 - r#"{"x":""}"#.len())});
    let key = ada.create_key_with(&json!({
        "name": name, "scopes": scopes, "ip_allowlist": networks, "metadata": metadata,
    }));
    assert_eq!(key["scopes"], json!(scopes));
    assert_eq!(key["ip_allowlist"], json!(networks));
    assert_eq!(key["metadata"], metadata);
}

fn metadata_nested_deeper_than_32_levels_is_rejected(server: TestServer) {
    let ada = server.user("ada@example.com");
    let nested = |depth: usize| {
        let (open, close) = (r#"{"a":"#.repeat(depth), "}".repeat(depth));
        serde_json::from_str::<Value>(&format!("{open}1{close}")).unwrap()
    };
    let key = ada.create_key_with(&json!({"metadata": nested(32)}));
    let path = path_of(&key);
    assert_eq!(ada.get(&path).json()["metadata"], nested(32));
    assert_eq!(
        ada.patch_json(&path, &json!({"metadata": {"b": nested(31)}}))
            .status,
        200
    );
    for depth in [33, 100, 126] {
        for reply in [
            ada.post_json("/api-keys", &json!({"metadata": nested(depth)})),
            ada.patch_json(&path, &json!({"metadata": nested(depth)})),
        ] {
            let problem = reply.assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], "/metadata");
        }
    }
    // Nested deeper than the service's JSON parser accepts.
    let (open, close) = ("[".repeat(30_000), "]".repeat(30_000));
    let deep = format!(r#"{{"metadata": {{"a": {open}{close}}}}}"#);
    let reply = ada
        .with("content-type", "application/json")
        .send("POST", "/api-keys", deep);
    reply.assert_problem(400, "invalid_json");
    assert_eq!(ada.get("/audit-log").status, 200);
    // No name of a member has a special meaning.
    for name in [
        "$serde_json::private::RawValue",
        "$serde_json::private::Number",
        "",
        "__proto__",
    ] {
        let metadata = json!({"a": {name: "[1,2]"}});
        let key = ada.create_key_with(&json!({"metadata": metadata}));
        assert_eq!(key["metadata"], metadata);
    }
}

fn unknown_and_read_only_members_are_rejected(server: TestServer) {
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
    // Some settings can be set on creation only, and `enabled` by a patch only.
    ada.patch_json(&path, &json!({"environment": "test"}))
        .assert_problem(422, "validation_failed");
    ada.patch_json(&path, &json!({"expires_in_seconds": 5}))
        .assert_problem(422, "validation_failed");
    ada.post_json("/api-keys", &json!({"enabled": true}))
        .assert_problem(422, "validation_failed");
    assert_eq!(ada.get(&path).body, before);
}

fn key_of_another_user_cannot_be_changed_and_reveals_nothing(server: TestServer) {
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
    assert_eq!(server.caller(&key).get("/protected").status, 200);
}

fn patch_without_a_supported_media_type_is_rejected(server: TestServer) {
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
    // A merge patch cannot create a key.
    patch
        .send("POST", "/api-keys", "{}")
        .assert_problem(415, "unsupported_media_type");
}

fn validation_message_says_what_would_be_accepted(server: TestServer) {
    let ada = server.user("ada@example.com");
    for (body, message) in [
        (r#"{"name": 1}"#, "must be a string"),
        (r#"{"environment": "prod"}"#, "must be `live` or `test`"),
        (r#"{"environment": 1}"#, "must be a string"),
        (r#"{"scopes": "a"}"#, "must be a list"),
        (r#"{"metadata": []}"#, "must be an object"),
        (r#"{"metadata": {"a": 1e400}}"#, "is too large a number"),
        (r#"{"expires_in_seconds": "5"}"#, "must be a whole number"),
        (r#"{"expires_in_seconds": 1.5}"#, "must be a whole number"),
        (
            r#"{"expires_in_seconds": 9223372036854775808}"#,
            "is too large a number",
        ),
        (r#"{"expires_in_seconds": 1e400}"#, "is too large a number"),
        (
            r#"{"expires_in_seconds": 0}"#,
            "must be a whole number from 1 to 315360000",
        ),
        (
            r#"{"expires_at": "tomorrow"}"#,
            "must be a time in RFC 3339, such as 2030-01-31T12:00:00Z",
        ),
    ] {
        let json = ada.with("content-type", "application/json");
        let reply = json.send("POST", "/api-keys", body);
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["message"], message, "{body}");
    }
    let path = path_of(&ada.create_key());
    let problem = ada.patch_json(&path, &json!({"enabled": "yes"}));
    let problem = problem.assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["message"], "must be true or false");
}
