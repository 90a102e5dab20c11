//! Validation of a key's rate limit and quota: `POST /api-keys`, `PATCH /api-keys/{id}`.

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{TestServer, path_of},
};

on_both_databases! {
    limits_at_their_bounds_are_accepted_and_beyond_rejected,
    malformed_limit_is_rejected_with_the_pointer_of_the_defect,
    limit_validation_message_says_what_would_be_accepted,
}

fn limits_at_their_bounds_are_accepted_and_beyond_rejected(server: TestServer) {
    let ada = server.user("ada@example.com");
    let numbers = [
        ("1", true),
        ("0", false),
        ("-1", false),
        ("1.5", false),
        ("1.0", false),
        ("1e400", false),
        ("9223372036854775808", false),
        ("18446744073709551617", false),
        ("-9223372036854775809", false),
        ("\"100\"", false),
        ("true", false),
        ("[]", false),
        ("{}", false),
        ("null", false),
    ];
    let limits = [("9007199254740992", true), ("9007199254740993", false)];
    let windows = [
        ("86400", true),
        ("86401", false),
        // 1 and 60 when truncated to 32 bits.
        ("4294967297", false),
        ("4294967356", false),
    ];
    let periods = [
        ("\"day\"", true),
        ("\"month\"", true),
        ("\"total\"", true),
        ("\"week\"", false),
        ("\"Day\"", false),
        ("\"\"", false),
        ("1", false),
        ("[\"day\"]", false),
        ("{\"day\": null}", false),
        ("null", false),
    ];
    let limit_values = || numbers.into_iter().chain(limits);
    let window_values = || numbers.into_iter().chain(windows);
    let mut cases = Vec::new();
    cases.extend(limit_values().map(|(value, good)| {
        let rate_limit = format!(r#"{{"limit": {value}, "window_seconds": 60}}"#);
        ("rate_limit", "limit", rate_limit, good)
    }));
    cases.extend(window_values().map(|(value, good)| {
        let rate_limit = format!(r#"{{"limit": 5, "window_seconds": {value}}}"#);
        ("rate_limit", "window_seconds", rate_limit, good)
    }));
    cases.extend(limit_values().map(|(value, good)| {
        let quota = format!(r#"{{"limit": {value}, "period": "day"}}"#);
        ("quota", "limit", quota, good)
    }));
    cases.extend(periods.into_iter().map(|(value, good)| {
        let quota = format!(r#"{{"limit": 5, "period": {value}}}"#);
        ("quota", "period", quota, good)
    }));

    let unlimited_path = path_of(&ada.create_key());
    let settings = json!({
        "rate_limit": {"limit": 7, "window_seconds": 7}, "quota": {"limit": 7, "period": "day"},
    });
    let limited_path = path_of(&ada.create_key_with(&settings));
    let json = ada.with("content-type", "application/json");
    for (name, member, object, is_good) in cases {
        let body = format!(r#"{{"{name}": {object}}}"#);
        for (method, path, success) in [
            ("POST", "/api-keys", 201),
            ("PATCH", &unlimited_path, 200),
            ("PATCH", &limited_path, 200),
        ] {
            let reply = json.send(method, path, &body);
            if is_good {
                assert_eq!(reply.status, success, "{body}: {reply:?}");
                let expected: Value = serde_json::from_str(&object).unwrap();
                assert_eq!(reply.json()[name], expected);
            } else {
                let problem = reply.assert_problem(422, "validation_failed");
                let pointer = format!("/{name}/{member}");
                assert_eq!(problem["errors"][0]["pointer"], pointer, "{method} {body}");
            }
        }
        // Restore both keys for the next case.
        json.send(
            "PATCH",
            &unlimited_path,
            r#"{"rate_limit": null, "quota": null}"#,
        );
        let restored = json.send("PATCH", &limited_path, settings.to_string());
        assert_eq!(restored.status, 200);
    }
}

fn malformed_limit_is_rejected_with_the_pointer_of_the_defect(server: TestServer) {
    let ada = server.user("ada@example.com");
    let path = path_of(&ada.create_key());
    let before = ada.get(&path).body;
    for (body, pointer) in [
        (json!({"rate_limit": "100/60"}), "/rate_limit"),
        (json!({"rate_limit": 100}), "/rate_limit"),
        (json!({"rate_limit": []}), "/rate_limit"),
        (json!({"rate_limit": [100, 60]}), "/rate_limit"),
        (
            json!({"rate_limit": {"limit": 100}}),
            "/rate_limit/window_seconds",
        ),
        (
            json!({"rate_limit": {"window_seconds": 60}}),
            "/rate_limit/limit",
        ),
        (
            json!({"rate_limit": {"limit": 100, "window_seconds": 60, "burst": 5}}),
            "/rate_limit/burst",
        ),
        (
            json!({"rate_limit": {"limit": 100, "window": 60}}),
            "/rate_limit/window",
        ),
        (json!({"quota": "1000/day"}), "/quota"),
        (json!({"quota": true}), "/quota"),
        (json!({"quota": [1000, "day"]}), "/quota"),
        (json!({"quota": {"limit": 1000}}), "/quota/period"),
        (json!({"quota": {"period": "day"}}), "/quota/limit"),
        (
            json!({"quota": {"limit": 1000, "period": "day", "used": 0}}),
            "/quota/used",
        ),
        (json!({"rate_limits": null}), "/rate_limits"),
        (json!({"lineage_id": null}), "/lineage_id"),
    ] {
        for reply in [
            ada.post_json("/api-keys", &body),
            ada.patch_json(&path, &body),
        ] {
            let problem = reply.assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
    }
    // If both members are missing, either may be reported first.
    for (body, prefix) in [
        (json!({"rate_limit": {}}), "/rate_limit/"),
        (json!({"quota": {}}), "/quota/"),
    ] {
        for reply in [
            ada.post_json("/api-keys", &body),
            ada.patch_json(&path, &body),
        ] {
            let problem = reply.assert_problem(422, "validation_failed");
            let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
            assert!(pointer.starts_with(prefix), "{body}: {problem}");
        }
    }
    assert_eq!(ada.get(&path).body, before);
    assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 1);
    // One response reports every defect.
    let many = json!({
        "name": "",
        "rate_limit": {"limit": 0, "window_seconds": 0},
        "quota": {"limit": 0, "period": "day"},
    });
    for reply in [
        ada.post_json("/api-keys", &many),
        ada.patch_json(&path, &many),
    ] {
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 4, "{problem}");
    }
}

fn limit_validation_message_says_what_would_be_accepted(server: TestServer) {
    let ada = server.user("ada@example.com");
    for (body, parts) in [
        (
            json!({"rate_limit": {"limit": 0, "window_seconds": 60}}),
            &["from 1 to 9007199254740992"][..],
        ),
        (
            json!({"rate_limit": {"limit": 1, "window_seconds": 86_401}}),
            &["from 1 to 86400"],
        ),
        (
            json!({"rate_limit": {"limit": "1", "window_seconds": 60}}),
            &["must be a whole number"],
        ),
        (json!({"rate_limit": "1/60"}), &["must be an object"]),
        (json!({"rate_limit": {"limit": 1}}), &["is required"]),
        (
            json!({"quota": {"limit": 0, "period": "day"}}),
            &["from 1 to 9007199254740992"],
        ),
        (
            json!({"quota": {"limit": 1, "period": "week"}}),
            &["must be", "`day`", "`month`", "`total`"],
        ),
        (json!({"quota": {"period": "day"}}), &["is required"]),
    ] {
        let reply = ada.post_json("/api-keys", &body);
        let problem = reply.assert_problem(422, "validation_failed");
        let message = problem["errors"][0]["message"].as_str().unwrap();
        for part in parts {
            assert!(message.contains(part), "{body}: {message}");
        }
    }
}
