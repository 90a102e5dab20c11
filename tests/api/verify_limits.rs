//! `/verify` and `/verify/batch`: the status of the limits of a verified key.

use std::thread;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    limit_settings::{change, quota, rate_limit},
    on_both_databases,
    quotas::{next_day, next_month, set_clock_to_noon, with_quota},
    rate_limits::{DAY, HOUR, assert_soon_before, limited, use_key},
    support::{Client, TestServer, path_of},
    verify::{verifier, verify_key},
};

on_both_databases! {
    |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
    verify_reports_the_status_of_each_limit_that_the_key_has,
    verify_reports_when_the_quota_resets,
    verify_omits_limits_for_disabled_revoked_and_unknown_keys,
    batch_reports_the_limits_of_every_key,
    concurrent_verifications_with_different_costs_spend_exactly_the_limit,
    verifying_key_is_charged_one_unit_per_request_whatever_the_cost,
}

/// Parses a time in RFC 3339 that must be in UTC with `Z`.
#[track_caller]
fn time_of(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap();
    assert!(text.ends_with('Z'), "{text}");
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn verify_reports_the_status_of_each_limit_that_the_key_has(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    let key = ada.create_key_with(&json!({
        "rate_limit": rate_limit(24, DAY), "quota": quota(1000, "day"),
    }));
    let mut used = 0;
    for cost in [0, 1, 5, 0] {
        let result = verify_key(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
        used += cost;
        assert_eq!(result["code"], "valid");
        let limit = result["rate_limit"].as_object().unwrap();
        let members: Vec<_> = limit.keys().collect();
        assert_eq!(members, ["limit", "remaining", "reset_seconds"]);
        assert_eq!(
            (&limit["limit"], &limit["remaining"]),
            (&json!(24), &json!(24 - used))
        );
        match limit["reset_seconds"].as_u64().unwrap() {
            0 => assert_eq!(used, 0),
            seconds => assert_soon_before(seconds, used * HOUR),
        }
        let quota = result["quota"].as_object().unwrap();
        let members: Vec<_> = quota.keys().collect();
        assert_eq!(members, ["limit", "remaining", "resets_at"]);
        let left = (&quota["limit"], &quota["remaining"]);
        assert_eq!(left, (&json!(1000), &json!(1000 - used)));
        assert_eq!(time_of(&quota["resets_at"]), next_day(&server));
    }
    for (key, has_limit, has_quota) in [
        (limited(&ada, 1, 1), true, false),
        (with_quota(&ada, 1, "total"), false, true),
        (ada.create_key(), false, false),
    ] {
        let result = verify_key(&verifier, &json!({"api_key": key["api_key"]}));
        assert_eq!(result.get("rate_limit").is_some(), has_limit, "{result}");
        assert_eq!(result.get("quota").is_some(), has_quota, "{result}");
    }
}

fn verify_reports_when_the_quota_resets(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    let resets_at = |key: &Value| {
        let mut reset_times = Vec::new();
        // Accepted, rejected, and verified with cost 0.
        for (cost, code) in [(1, "valid"), (1, "quota_exceeded"), (0, "valid")] {
            let result = verify_key(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
            assert_eq!(result["code"], code, "{result}");
            assert_eq!(result["quota"]["remaining"], 0);
            reset_times.push(result["quota"]["resets_at"].clone());
        }
        reset_times.dedup();
        assert_eq!(reset_times.len(), 1, "{reset_times:?}");
        reset_times.remove(0)
    };
    let day = resets_at(&with_quota(&ada, 1, "day"));
    assert_eq!(time_of(&day), next_day(&server));
    let month = resets_at(&with_quota(&ada, 1, "month"));
    assert_eq!(time_of(&month), next_month(&server));
    assert_eq!(resets_at(&with_quota(&ada, 1, "total")), Value::Null);
}

fn verify_omits_limits_for_disabled_revoked_and_unknown_keys(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    let settings = json!({
        "rate_limit": rate_limit(3, DAY), "quota": quota(3, "day"),
        "scopes": ["a"], "ip_allowlist": ["192.0.2.7"],
    });
    let key = ada.create_key_with(&settings);
    let code_and_remaining = |more: Value| {
        let mut request = more;
        request["api_key"] = key["api_key"].clone();
        let result = verify_key(&verifier, &request);
        let left = |limit: &str| result.get(limit).map(|limit| limit["remaining"].clone());
        let code = result["code"].as_str().unwrap().to_owned();
        (code, left("rate_limit"), left("quota"))
    };
    let with_both_limits = |code: &str, rate_limit: u64, quota: u64| {
        let left = |number: u64| Some(json!(number));
        (code.to_owned(), left(rate_limit), left(quota))
    };
    let good = |cost: u64| json!({"client_ip": "192.0.2.7", "scopes": ["a"], "cost": cost});
    assert_eq!(
        code_and_remaining(json!({"client_ip": "192.0.2.8"})),
        with_both_limits("ip_not_allowed", 3, 3)
    );
    let other_scope = json!({"client_ip": "192.0.2.7", "scopes": ["b"]});
    assert_eq!(
        code_and_remaining(other_scope.clone()),
        with_both_limits("insufficient_scope", 3, 3)
    );
    assert_eq!(code_and_remaining(good(2)), with_both_limits("valid", 1, 1));
    assert_eq!(
        code_and_remaining(good(2)),
        with_both_limits("rate_limited", 1, 1)
    );
    change(&ada, &key, &json!({"rate_limit": {"limit": 10}}));
    assert_eq!(
        code_and_remaining(good(2)),
        with_both_limits("quota_exceeded", 8, 1)
    );
    assert_eq!(code_and_remaining(good(1)), with_both_limits("valid", 7, 0));
    assert_eq!(
        code_and_remaining(good(8)),
        with_both_limits("rate_limited", 7, 0)
    );
    assert_eq!(code_and_remaining(good(0)), with_both_limits("valid", 7, 0));
    // A reason that precedes the limits is reported first, whatever remains.
    assert_eq!(
        code_and_remaining(other_scope),
        with_both_limits("insufficient_scope", 7, 0)
    );
    let without_limits = |code: &str| (code.to_owned(), None, None);
    change(&ada, &key, &json!({"enabled": false}));
    assert_eq!(code_and_remaining(good(1)), without_limits("disabled"));
    change(&ada, &key, &json!({"enabled": true}));
    ada.delete(&path_of(&key));
    assert_eq!(code_and_remaining(good(0)), without_limits("revoked"));
    let result = verify_key(&verifier, &json!({"api_key": "garbage"}));
    assert_eq!(result, json!({"valid": false, "code": "not_found"}));
}

fn batch_reports_the_limits_of_every_key(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    let key = ada.create_key_with(&json!({
        "rate_limit": rate_limit(60, DAY), "quota": quota(50, "day"),
    }));
    let other = limited(&ada, 60, DAY);
    let mut requests = vec![json!({"api_key": key["api_key"]}); 70];
    requests.insert(30, json!({"api_key": other["api_key"], "cost": 7}));
    let reply = verifier.post_json("/verify/batch", &json!({"keys": requests}));
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut results = reply.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.remove(30)["rate_limit"]["remaining"], 53);
    let mut left = Vec::new();
    for result in &results {
        if result["code"] == "valid" {
            left.push(result["quota"]["remaining"].as_u64().unwrap());
        } else {
            assert_eq!(result["code"], "quota_exceeded", "{result}");
            assert_eq!(result["quota"]["remaining"], 0);
            // Other checks of the batch may hold tokens that are refunded once the quota rejects them.
            let remaining = result["rate_limit"]["remaining"].as_u64();
            assert!(
                remaining.is_some_and(|left| (7..=10).contains(&left)),
                "{result}"
            );
        }
    }
    // Each unit is consumed once.
    left.sort_unstable();
    assert_eq!(left, (0..50).collect::<Vec<u64>>());
    let too_expensive = json!({"keys": vec![json!({"api_key": key["api_key"], "cost": 11}); 3]});
    let reply = verifier.post_json("/verify/batch", &too_expensive).json();
    for result in reply["results"].as_array().unwrap() {
        assert_eq!(result["code"], "rate_limited", "{result}");
    }
}

fn concurrent_verifications_with_different_costs_spend_exactly_the_limit(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    for key in [limited(&ada, 1000, DAY), with_quota(&ada, 1000, "total")] {
        let take = |verifier: &Client, cost: u64| {
            let request = json!({"api_key": key["api_key"], "cost": cost});
            let is_valid = verify_key(verifier, &request)["valid"] == true;
            if is_valid { cost } else { 0 }
        };
        // The requested costs add up to twice the limit.
        let taken: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..40)
                .map(|index| {
                    let (verifier, take) = (verifier.clone(), &take);
                    scope.spawn(move || (0..10).map(|n| take(&verifier, (index + n) % 9 + 1)).sum())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| -> u64 { thread.join().unwrap() })
                .sum()
        });
        // A cost of at most 9 is rejected only while fewer than 9 units remain.
        assert!((992..=1000).contains(&taken), "{taken}");
        let remaining_units: u64 = (0..10).map(|_| take(&verifier, 1)).sum();
        assert_eq!(taken + remaining_units, 1000);
    }
}

fn verifying_key_is_charged_one_unit_per_request_whatever_the_cost(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let settings = json!({"scopes": ["keys:verify"], "quota": quota(5, "total")});
    let own = admin.create_key_with(&settings);
    let verifier = server.caller(&own);
    let clients = limited(&admin, 24, DAY);
    for left in [22, 20] {
        let request = json!({"api_key": clients["api_key"], "cost": 2});
        assert_eq!(
            verify_key(&verifier, &request)["rate_limit"]["remaining"],
            left
        );
    }
    // A key that verifies itself is charged for the request before it is checked.
    let itself = json!({"api_key": own["api_key"], "cost": 0});
    assert_eq!(verify_key(&verifier, &itself)["quota"]["remaining"], 2);
    let itself = json!({"api_key": own["api_key"], "cost": 1});
    assert_eq!(verify_key(&verifier, &itself)["quota"]["remaining"], 0);
    verifier
        .post_json("/verify", &itself)
        .assert_problem(429, "quota_exceeded");
    use_key(&server, &clients, 20);
}
