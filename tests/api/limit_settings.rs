//! Setting, changing and reading a key's rate limit and quota: `POST /api-keys`, `PATCH /api-keys/{id}`.

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, TestServer, path_of},
};

/// Largest limit of a rate limit or a quota: 2^53.
const MAX_LIMIT: u64 = 9_007_199_254_740_992;

on_both_databases! {
    created_key_has_the_requested_limits,
    key_lists_show_the_limits_of_each_key,
    limit_patch_is_merged_into_the_current_limits,
    null_in_a_patch_clears_a_limit,
}

pub fn rate_limit(limit: u64, window_seconds: u64) -> Value {
    json!({"limit": limit, "window_seconds": window_seconds})
}

pub fn quota(limit: u64, period: &str) -> Value {
    json!({"limit": limit, "period": period})
}

/// Returns the current rate limit and quota of a key.
#[track_caller]
pub fn limits(client: &Client, key: &Value) -> (Value, Value) {
    let key = client.get(&path_of(key)).json();
    (key["rate_limit"].clone(), key["quota"].clone())
}

#[track_caller]
pub fn change(client: &Client, key: &Value, patch: &Value) -> Value {
    let reply = client.patch_json(&path_of(key), patch);
    assert_eq!(reply.status, 200, "{patch}: {reply:?}");
    reply.json()
}

fn created_key_has_the_requested_limits(server: TestServer) {
    let ada = server.user("ada@example.com");
    for (rate_limit, quota) in [
        (Value::Null, Value::Null),
        (rate_limit(100, 60), Value::Null),
        (Value::Null, quota(1000, "day")),
        (rate_limit(1, 1), quota(1, "month")),
        (rate_limit(MAX_LIMIT, 86_400), quota(MAX_LIMIT, "total")),
    ] {
        let settings = json!({"rate_limit": rate_limit, "quota": quota});
        let created = ada.create_key_with(&settings);
        let stored = ada.get(&path_of(&created)).json();
        for key in [&created, &stored] {
            assert_eq!(key["rate_limit"], rate_limit);
            assert_eq!(key["quota"], quota);
        }
        let members: Vec<_> = stored.as_object().unwrap().keys().collect();
        let expected = [
            "id",
            "name",
            "prefix",
            "environment",
            "status",
            "enabled",
            "scopes",
            "ip_allowlist",
            "rate_limit",
            "quota",
            "metadata",
            "created_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
            "rotated_from",
        ];
        assert_eq!(members, expected);
    }
    let key = ada.create_key();
    assert_eq!(limits(&ada, &key), (Value::Null, Value::Null));
}

fn key_lists_show_the_limits_of_each_key(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let settings = json!({"rate_limit": rate_limit(100, 60), "quota": quota(1000, "month")});
    ada.create_key_with(&settings);
    for list in [ada.get("/api-keys"), root.get("/admin/api-keys")] {
        let key = &list.json()[0];
        assert_eq!(key["rate_limit"], settings["rate_limit"]);
        assert_eq!(key["quota"], settings["quota"]);
    }
}

fn limit_patch_is_merged_into_the_current_limits(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"name": "n", "rate_limit": rate_limit(100, 60)}));
    let path = path_of(&key);
    let mut expected = ada.get(&path).json();
    for (patch, member, value) in [
        (
            json!({"rate_limit": {"limit": 200}}),
            "rate_limit",
            rate_limit(200, 60),
        ),
        (
            json!({"rate_limit": {"window_seconds": 3600}}),
            "rate_limit",
            rate_limit(200, 3600),
        ),
        (
            json!({"rate_limit": {}}),
            "rate_limit",
            rate_limit(200, 3600),
        ),
        (
            json!({"quota": {"limit": 5, "period": "day"}}),
            "quota",
            quota(5, "day"),
        ),
        (
            json!({"quota": {"period": "month"}}),
            "quota",
            quota(5, "month"),
        ),
        (
            json!({"quota": {"limit": MAX_LIMIT}}),
            "quota",
            quota(MAX_LIMIT, "month"),
        ),
    ] {
        expected[member] = value;
        assert_eq!(change(&ada, &key, &patch), expected);
        assert_eq!(ada.get(&path).json(), expected);
    }
    // A member cannot be cleared, as it has no default. A limit that does not exist yet needs both members.
    change(&ada, &key, &json!({"quota": null}));
    for (patch, pointer) in [
        (json!({"rate_limit": {"limit": null}}), "/rate_limit/limit"),
        (
            json!({"rate_limit": {"limit": 5, "window_seconds": null}}),
            "/rate_limit/window_seconds",
        ),
        (json!({"quota": {"limit": 5}}), "/quota/period"),
        (json!({"quota": {"period": "day"}}), "/quota/limit"),
        (
            json!({"quota": {"limit": 5, "period": null}}),
            "/quota/period",
        ),
    ] {
        let reply = ada.patch_json(&path, &patch);
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{patch}");
    }
    assert_eq!(limits(&ada, &key), (rate_limit(200, 3600), Value::Null));
}

fn null_in_a_patch_clears_a_limit(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({
        "rate_limit": rate_limit(1, 86_400), "quota": quota(1, "total"),
    }));
    let caller = server.caller(&key);
    assert_eq!(caller.get("/protected").status, 200);
    caller.get("/protected").assert_problem(429, "rate_limited");
    let cleared = change(&ada, &key, &json!({"rate_limit": null}));
    assert_eq!(cleared["rate_limit"], Value::Null);
    assert_eq!(cleared["quota"], quota(1, "total"));
    caller
        .get("/protected")
        .assert_problem(429, "quota_exceeded");
    let cleared = change(&ada, &key, &json!({"quota": null}));
    assert_eq!(cleared["quota"], Value::Null);
    for _ in 0..3 {
        assert_eq!(caller.get("/protected").status, 200);
    }
    // Clearing is idempotent.
    let again = change(&ada, &key, &json!({"rate_limit": null, "quota": null}));
    assert_eq!(
        (&again["rate_limit"], &again["quota"]),
        (&Value::Null, &Value::Null)
    );
}
