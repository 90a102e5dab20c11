//! `DEFAULT_RATE_LIMIT`: rate limit of keys that have none of their own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    key_rotation::rotate,
    limit_settings::{change, limits, rate_limit},
    on_both_databases,
    rate_limits::{DAY, limited, use_up},
    support::{TestServer, path_of},
};

on_both_databases! {
    |config| {
        config.limits.default_rate_limit = Some("5/86400".parse().unwrap());
        config.jwt_ttl_seconds = 10 * 24 * 3600;
    };
    key_without_a_rate_limit_uses_the_default_and_shows_none,
    own_rate_limit_of_a_key_replaces_the_default,
    key_and_its_successor_share_the_default_rate_limit,
    verify_reports_the_default_rate_limit,
}

fn key_without_a_rate_limit_uses_the_default_and_shows_none(server: TestServer) {
    let ada = server.user("ada@example.com");
    // Each key has the whole limit.
    for _ in 0..2 {
        let key = ada.create_key();
        let caller = server.caller(&key);
        assert_eq!(use_up(&caller, "rate_limited").0, 5);
        server.advance(Duration::from_secs(DAY / 5));
        assert_eq!(use_up(&caller, "rate_limited").0, 1);
        assert_eq!(key["rate_limit"], Value::Null);
        assert_eq!(limits(&ada, &key), (Value::Null, Value::Null));
    }
}

fn own_rate_limit_of_a_key_replaces_the_default(server: TestServer) {
    let ada = server.user("ada@example.com");
    for limit in [2, 8] {
        let caller = server.caller(&limited(&ada, limit, DAY));
        assert_eq!(use_up(&caller, "rate_limited").0, limit);
    }
    let key = limited(&ada, 7, DAY);
    let caller = server.caller(&key);
    for _ in 0..3 {
        assert_eq!(caller.get("/protected").status, 200);
    }
    // Without its own limit the key has the default one, and its 3 used tokens count there.
    change(&ada, &key, &json!({"rate_limit": null}));
    assert_eq!(use_up(&caller, "rate_limited").0, 2);
    // The key has no limit of its own: a patch without a window has nothing to be merged into.
    let reply = ada.patch_json(&path_of(&key), &json!({"rate_limit": {"limit": 9}}));
    let problem = reply.assert_problem(422, "validation_failed");
    let pointer = "/rate_limit/window_seconds";
    assert_eq!(problem["errors"][0]["pointer"], pointer);
    change(&ada, &key, &json!({"rate_limit": rate_limit(9, DAY)}));
    assert_eq!(use_up(&caller, "rate_limited").0, 4);
}

fn key_and_its_successor_share_the_default_rate_limit(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key();
    let new = rotate(&ada, &old, json!(600)).json();
    assert_eq!(new["rate_limit"], Value::Null);
    for key in [&old, &new] {
        assert_eq!(server.caller(key).get("/protected").status, 200);
    }
    assert_eq!(use_up(&server.caller(&new), "rate_limited").0, 3);
    assert_eq!(use_up(&server.caller(&old), "rate_limited").0, 0);
}

fn verify_reports_the_default_rate_limit(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let verifier = server.caller(&admin.create_key_with(&json!({"scopes": ["keys:verify"]})));
    let key = server.user("ada@example.com").create_key();
    // The verifier's own key has the default limit, too.
    for (uses, code) in [
        (4, "valid"),
        (0, "valid"),
        (2, "rate_limited"),
        (1, "valid"),
    ] {
        let request = json!({"api_key": key["api_key"], "cost": uses});
        let response = verifier.post_json("/verify", &request).json();
        assert_eq!(response["code"], code, "{response}");
        assert_eq!(response["rate_limit"]["limit"], 5);
        assert_eq!(response.get("quota"), None);
    }
    let request = json!({"api_key": key["api_key"], "cost": 0});
    let last = verifier.post_json("/verify", &request);
    assert_eq!(last.json()["rate_limit"]["remaining"], 0);
    verifier
        .post_json("/verify", &request)
        .assert_problem(429, "rate_limited");
}
