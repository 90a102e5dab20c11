//! `DEFAULT_RATE_LIMIT`: of keys that have no limit of their own.

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
    a_key_without_a_limit_has_the_default_and_shows_none,
    a_limit_of_its_own_comes_first,
    a_key_and_its_successors_use_the_default_together,
    a_verifier_is_told_of_it,
}

fn a_key_without_a_limit_has_the_default_and_shows_none(server: TestServer) {
    let ada = server.user("ada@example.com");
    // Each for itself.
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

fn a_limit_of_its_own_comes_first(server: TestServer) {
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
    // With its own gone it has the default, of which as much is used.
    change(&ada, &key, &json!({"rate_limit": null}));
    assert_eq!(use_up(&caller, "rate_limited").0, 2);
    // There is nothing that a patch without a window could be merged into.
    let reply = ada.patch_json(&path_of(&key), &json!({"rate_limit": {"limit": 9}}));
    let problem = reply.assert_problem(422, "validation_failed");
    let pointer = "/rate_limit/window_seconds";
    assert_eq!(problem["errors"][0]["pointer"], pointer);
    change(&ada, &key, &json!({"rate_limit": rate_limit(9, DAY)}));
    assert_eq!(use_up(&caller, "rate_limited").0, 4);
}

fn a_key_and_its_successors_use_the_default_together(server: TestServer) {
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

fn a_verifier_is_told_of_it(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let verifier = server.caller(&admin.create_key_with(&json!({"scopes": ["keys:verify"]})));
    let key = server.user("ada@example.com").create_key();
    // The verifier is a caller as well, with a key that has the default.
    for (uses, code) in [
        (4, "valid"),
        (0, "valid"),
        (2, "rate_limited"),
        (1, "valid"),
    ] {
        let question = json!({"api_key": key["api_key"], "cost": uses});
        let answer = verifier.post_json("/verify", &question).json();
        assert_eq!(answer["code"], code, "{answer}");
        assert_eq!(answer["rate_limit"]["limit"], 5);
        assert_eq!(answer.get("quota"), None);
    }
    let question = json!({"api_key": key["api_key"], "cost": 0});
    let last = verifier.post_json("/verify", &question);
    assert_eq!(last.json()["rate_limit"]["remaining"], 0);
    verifier
        .post_json("/verify", &question)
        .assert_problem(429, "rate_limited");
}
