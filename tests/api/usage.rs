//! Usage of keys: verifications per outcome, per hour and per day.

use std::{
    thread,
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, TimeDelta};
use serde_json::{Value, json};

use crate::{
    key_settings::time,
    limit_settings::{quota, rate_limit},
    on_both_databases,
    quotas::{next_day, now, set_clock, set_clock_to_noon},
    rate_limits::use_key,
    support::{Client, TestServer, path_of},
    verify::{verifier, verify_key},
};

on_both_databases! {
    |config| config.jwt_ttl_seconds = 30 * 24 * 3600;
    usage_is_counted_per_outcome,
    usage_is_counted_on_every_verifying_route,
    verification_with_cost_0_is_not_counted_as_usage,
    usage_is_reported_in_the_buckets_of_its_hour_and_day,
    usage_of_another_users_key_is_not_found,
    operator_reads_the_usage_of_everyone_or_of_one_account,
    usage_of_a_rotated_key_and_its_successor_is_separate,
    usage_is_written_on_graceful_shutdown,
}

/// Returns the usage of a key.
#[track_caller]
pub fn usage(owner: &Client, key: &Value, query: &str) -> Value {
    usage_at(owner, &format!("{}/usage{query}", path_of(key)))
}

/// Returns the usage at a path, after checking that the buckets add up to the total.
#[track_caller]
pub fn usage_at(reader: &Client, path: &str) -> Value {
    let reply = reader.get(path);
    assert_eq!(reply.status, 200, "{reply:?}");
    let usage = reply.json();
    let sums = usage["buckets"].as_array().unwrap().iter();
    let sum: u64 = sums.map(|bucket| bucket["total"].as_u64().unwrap()).sum();
    assert_eq!(usage["total"], sum, "{usage}");
    usage
}

/// Waits until the usage at a path has exactly these outcomes.
#[track_caller]
pub fn await_outcomes(reader: &Client, path: &str, expected: &Value) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let outcomes = usage_at(reader, path)["by_outcome"].clone();
        if outcomes == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{outcomes} is not {expected}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
pub fn await_usage(owner: &Client, key: &Value, expected: &Value) {
    await_outcomes(owner, &format!("{}/usage", path_of(key)), expected);
}

fn usage_is_counted_per_outcome(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let key = ada.create_key_with(&json!({"ip_allowlist": ["203.0.113.0/24"]}));
    let good = json!({"api_key": key["api_key"], "client_ip": "203.0.113.7"});
    let mut missing = good.clone();
    missing["scopes"] = json!(["orders:read"]);
    let outside = json!({"api_key": key["api_key"], "client_ip": "198.51.100.1"});
    for request in [&good, &good, &good, &missing, &missing, &outside] {
        verify_key(&verifier, request);
    }
    let changed = |body| assert_eq!(ada.patch_json(&path_of(&key), &body).status, 200);
    changed(json!({"enabled": false}));
    verify_key(&verifier, &good);
    changed(json!({"enabled": true, "rate_limit": rate_limit(1, 86_400)}));
    for _ in 0..3 {
        verify_key(&verifier, &good);
    }
    changed(json!({"rate_limit": null, "quota": quota(1, "total")}));
    for _ in 0..2 {
        verify_key(&verifier, &good);
    }
    changed(json!({"quota": null}));
    assert_eq!(ada.delete(&path_of(&key)).status, 200);
    verify_key(&verifier, &good);
    await_usage(
        &ada,
        &key,
        &json!({
            "valid": 5, "disabled": 1, "revoked": 1, "ip_not_allowed": 1, "insufficient_scope": 2,
            "rate_limited": 2, "quota_exceeded": 1,
        }),
    );

    let short = ada.create_key_with(&json!({"expires_at": time(&server, 60)}));
    server.advance(Duration::from_secs(61));
    server
        .caller(&short)
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    await_usage(&ada, &short, &json!({"expired": 1}));
}

fn usage_is_counted_on_every_verifying_route(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let key = ada.create_key();
    use_key(&server, &key, 2);
    assert_eq!(server.caller(&key).get("/forward-auth").status, 200);
    server
        .caller(&key)
        .get("/forward-auth?scope=orders:read")
        .assert_problem(403, "insufficient_scope");
    let request = json!({"api_key": key["api_key"]});
    verify_key(&verifier, &request);
    let batch = json!({"keys": [request, request, request]});
    assert_eq!(verifier.post_json("/verify/batch", &batch).status, 200);
    await_usage(&ada, &key, &json!({"valid": 7, "insufficient_scope": 1}));
}

fn verification_with_cost_0_is_not_counted_as_usage(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let key = ada.create_key();
    let probe = json!({"api_key": key["api_key"], "cost": 0});
    let expensive = json!({"api_key": key["api_key"], "cost": 5});
    for request in [&probe, &probe, &expensive] {
        verify_key(&verifier, request);
    }
    await_usage(&ada, &key, &json!({"valid": 1}));
}

/// Returns the start and the total of every bucket that is not empty.
fn non_empty_buckets(usage: &Value) -> Vec<(String, u64)> {
    let buckets = usage["buckets"].as_array().unwrap().iter();
    let buckets = buckets.map(|bucket| {
        let start = bucket["start"].as_str().unwrap().to_owned();
        (start, bucket["total"].as_u64().unwrap())
    });
    buckets.filter(|(_, total)| *total > 0).collect()
}

fn usage_is_reported_in_the_buckets_of_its_hour_and_day(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    set_clock_to_noon(&server);
    let text = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let noon = next_day(&server) - TimeDelta::hours(12);
    set_clock(&server, noon + TimeDelta::minutes(30));
    use_key(&server, &key, 2);
    // The counts arrive before and after the first flush.
    set_clock(&server, noon + TimeDelta::minutes(90));
    use_key(&server, &key, 3);
    await_usage(&ada, &key, &json!({"valid": 5}));
    let tomorrow = noon + TimeDelta::hours(24);
    set_clock(&server, tomorrow + TimeDelta::minutes(1));
    use_key(&server, &key, 1);
    await_usage(&ada, &key, &json!({"valid": 6}));

    let hours = usage(&ada, &key, "?granularity=hour");
    assert_eq!(hours["buckets"].as_array().unwrap().len(), 24);
    let expected = [(text(noon + TimeDelta::hours(1)), 3), (text(tomorrow), 1)];
    assert_eq!(non_empty_buckets(&hours), expected);
    let from = text(noon).replace('+', "%2B");
    let hours = usage(&ada, &key, &format!("?granularity=hour&from={from}"));
    assert_eq!(hours["buckets"].as_array().unwrap().len(), 25);
    assert_eq!(non_empty_buckets(&hours)[0], (text(noon), 2));
    assert_eq!(
        hours["buckets"][1],
        json!({"start": text(noon + TimeDelta::hours(1)), "total": 3, "by_outcome": {"valid": 3}})
    );
    assert_eq!(
        hours["buckets"][2],
        json!({"start": text(noon + TimeDelta::hours(2)), "total": 0, "by_outcome": {}})
    );

    let days = usage(&ada, &key, "");
    assert_eq!(days["buckets"].as_array().unwrap().len(), 30);
    let midnight = noon - TimeDelta::hours(12);
    let expected = [
        (text(midnight), 5),
        (text(midnight + TimeDelta::hours(24)), 1),
    ];
    assert_eq!(non_empty_buckets(&days), expected);
}

fn usage_of_another_users_key_is_not_found(server: TestServer) {
    let (ada, bob) = (
        server.admin("ada@example.com"),
        server.user("bob@example.com"),
    );
    let path = format!("{}/usage", path_of(&bob.create_key()));
    for query in ["", "?granularity=minute"] {
        ada.get(&format!("{path}{query}"))
            .assert_problem(404, "not_found");
        ada.get(&format!("/api-keys/nothing/usage{query}"))
            .assert_problem(404, "not_found");
    }
}

fn operator_reads_the_usage_of_everyone_or_of_one_account(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let reader = server.operator(&admin, "reader@example.com", &["usage:read"]);
    let (ada, bob) = (
        server.user("ada@example.com"),
        server.user("bob@example.com"),
    );
    for (owner, keys, uses) in [(&ada, 2, 3), (&bob, 1, 4)] {
        for _ in 0..keys {
            use_key(&server, &owner.create_key(), uses);
        }
    }
    let stranger = server.anonymous();
    for unknown in [
        "sk_live_ExampleExampleExampleExample12344Lvtrp",
        "sk_live_malformed",
    ] {
        stranger
            .with_key(unknown)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }
    await_outcomes(
        &reader,
        "/admin/usage",
        &json!({"valid": 10, "not_found": 2}),
    );
    for (owner, uses) in [(&ada, 6), (&bob, 4)] {
        let path = format!("/admin/usage?user_id={}&granularity=hour", owner.id());
        await_outcomes(&reader, &path, &json!({"valid": uses}));
    }
    let unknown_user = "/admin/usage?user_id=01890a5d-ac96-774b-bcce-b302099a8057";
    await_outcomes(&reader, unknown_user, &json!({}));
}

fn usage_of_a_rotated_key_and_its_successor_is_separate(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key();
    use_key(&server, &old, 2);
    let new = crate::key_rotation::rotate(&ada, &old, json!(600)).json();
    use_key(&server, &new, 3);
    use_key(&server, &old, 1);
    await_usage(&ada, &old, &json!({"valid": 3}));
    await_usage(&ada, &new, &json!({"valid": 3}));
}

fn usage_is_written_on_graceful_shutdown(mut server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    for uses in [1, 7, 20] {
        use_key(&server, &key, uses);
    }
    let unknown = server.anonymous().with_key("sk_live_malformed");
    assert_eq!(unknown.get("/protected").status, 401);
    let before = now(&server);
    server.stop();
    let total = "SELECT CAST(SUM(count) AS TEXT) AS text FROM usage_hours
                 WHERE outcome = 'valid' GROUP BY subject_id";
    assert_eq!(server.query(total), ["28", "28", "28"], "{before}");
    let unknown = "SELECT CAST(count AS TEXT) AS text FROM usage_hours WHERE outcome = 'not_found'";
    assert_eq!(server.query(unknown), ["1"]);
    let writers = "SELECT CAST(COUNT(*) AS TEXT) AS text FROM usage_writers";
    assert_eq!(server.query(writers), ["0"]);
}
