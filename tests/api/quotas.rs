//! Quotas of keys: per day, per month, and in total.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    key_settings::time,
    limit_settings::{quota, rate_limit},
    on_both_databases,
    rate_limits::{
        DAY, assert_accepted, assert_soon_before, concurrent_requests, retry_after, use_up,
    },
    support::{Client, TestServer},
    verify::{verifier, verify_key},
};

/// Returns the time of the service's clock.
pub fn now(server: &TestServer) -> DateTime<Utc> {
    let text = time(server, 0);
    DateTime::parse_from_rfc3339(&text).unwrap().to_utc()
}

/// Returns the start of the next day in UTC.
pub fn next_day(server: &TestServer) -> DateTime<Utc> {
    let tomorrow = now(server).date_naive() + Days::new(1);
    tomorrow.and_time(NaiveTime::MIN).and_utc()
}

/// Returns the start of the next month in UTC.
pub fn next_month(server: &TestServer) -> DateTime<Utc> {
    let first = now(server).date_naive().with_day(1).unwrap();
    (first + Months::new(1)).and_time(NaiveTime::MIN).and_utc()
}

/// Sets the service's clock forward or back.
pub fn set_clock(server: &TestServer, at: DateTime<Utc>) {
    let difference = at - now(server);
    match difference.to_std() {
        Ok(forward) => server.advance(forward),
        Err(_) => server.clock.set_back(difference.abs().to_std().unwrap()),
    }
}

/// Sets the service's clock to noon of the next day, so that no day or month ends during a few requests.
pub fn set_clock_to_noon(server: &TestServer) {
    set_clock(server, next_day(server) + TimeDelta::hours(12));
}

/// Creates a key with this quota.
pub fn with_quota(client: &Client, limit: u64, period: &str) -> Value {
    client.create_key_with(&json!({"quota": quota(limit, period)}))
}

/// Uses a key until its quota rejects it. Returns the number of accepted requests and `Retry-After` in seconds.
#[track_caller]
pub fn spend(server: &TestServer, key: &Value) -> (u64, u64) {
    use_up(&server.caller(key), "quota_exceeded")
}

/// Returns the remaining units of a key's quota, from a verification with cost 0.
#[track_caller]
pub fn remaining(verifier: &Client, key: &Value) -> u64 {
    let probe = json!({"api_key": key["api_key"], "cost": 0});
    let quota = verify_key(verifier, &probe)["quota"].clone();
    quota["remaining"].as_u64().expect("a quota")
}

on_both_databases! {
    |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
    key_is_accepted_exactly_as_often_as_its_quota_allows,
    daily_quota_resets_at_midnight_utc,
    monthly_quota_resets_on_the_first_of_the_month,
    total_quota_never_resets,
    concurrent_requests_are_accepted_exactly_up_to_the_quota,
    request_consumes_its_whole_cost_from_the_quota_or_nothing,
    largest_quota_is_counted_exactly,
    rate_limit_is_checked_first_and_refunded_when_the_quota_rejects,
    request_rejected_for_another_reason_consumes_no_quota,
    keys_have_independent_quotas,
}

fn key_is_accepted_exactly_as_often_as_its_quota_allows(server: TestServer) {
    let ada = server.user("ada@example.com");
    set_clock_to_noon(&server);
    for limit in [1, 10, 150] {
        for period in ["day", "month", "total"] {
            let key = with_quota(&ada, limit, period);
            assert_eq!(spend(&server, &key).0, limit, "{period}");
            for _ in 0..10 {
                assert_eq!(spend(&server, &key).0, 0, "{period}");
            }
        }
    }
}

fn daily_quota_resets_at_midnight_utc(server: TestServer) {
    let ada = server.user("ada@example.com");
    set_clock_to_noon(&server);
    let key = with_quota(&ada, 3, "day");
    let (uses, wait) = spend(&server, &key);
    assert_eq!(uses, 3);
    assert_soon_before(wait, DAY / 2);
    for _ in 0..3 {
        let midnight = next_day(&server);
        set_clock(&server, midnight - TimeDelta::seconds(30));
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 0);
        assert_soon_before(wait, 30);
        set_clock(&server, midnight);
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 3);
        assert_soon_before(wait, DAY);
    }
    // Unused units are not carried over to another day.
    set_clock(&server, next_day(&server) + TimeDelta::days(20));
    assert_eq!(spend(&server, &key).0, 3);
}

fn monthly_quota_resets_on_the_first_of_the_month(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = with_quota(&ada, 3, "month");
    // All twelve months, independent of the current date.
    for _ in 0..13 {
        let first = next_month(&server);
        set_clock(&server, first);
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 3, "{first}");
        let length = next_month(&server) - first;
        assert_soon_before(wait, length.num_seconds().try_into().unwrap());
        // A new day within the month resets nothing.
        set_clock(&server, next_day(&server));
        assert_eq!(spend(&server, &key).0, 0, "{first}");
        set_clock(&server, next_month(&server) - TimeDelta::seconds(30));
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 0, "{first}");
        assert_soon_before(wait, 30);
    }
}

fn total_quota_never_resets(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = with_quota(&ada, 3, "total");
    assert_eq!(spend(&server, &key), (3, DAY));
    for days in [1, 31, 366, 3660] {
        server.advance(Duration::from_secs(days * DAY));
        assert_eq!(spend(&server, &key), (0, DAY));
    }
}

fn concurrent_requests_are_accepted_exactly_up_to_the_quota(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    for period in ["day", "month", "total"] {
        let key = with_quota(&ada, 50, period);
        assert_accepted(
            concurrent_requests(&server, &key, 200),
            50,
            "quota_exceeded",
        );
        assert_eq!(remaining(&verifier, &key), 0);
    }
}

fn request_consumes_its_whole_cost_from_the_quota_or_nothing(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    let key = with_quota(&ada, 10, "day");
    for (cost, code, left) in [
        (0, "valid", 10),
        (11, "quota_exceeded", 10),
        (1_000_000, "quota_exceeded", 10),
        (7, "valid", 3),
        (4, "quota_exceeded", 3),
        (3, "valid", 0),
        (0, "valid", 0),
        (1, "quota_exceeded", 0),
    ] {
        let result = verify_key(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
        assert_eq!(result["code"], code, "{cost}: {result}");
        assert_eq!(result["quota"]["limit"], 10);
        assert_eq!(result["quota"]["remaining"], left, "{cost}");
    }
    // Costs of any size can spend the quota to the last unit.
    let key = with_quota(&ada, 1_234_567, "total");
    for cost in [1_000_000, 1, 200_000, 34_000, 500, 60, 5] {
        let result = verify_key(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
        assert_eq!(result["code"], "valid", "{cost}: {result}");
    }
    assert_eq!(spend(&server, &key).0, 1);
}

fn largest_quota_is_counted_exactly(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    let max = 1 << 53;
    for period in ["day", "month", "total"] {
        let key = with_quota(&ada, max, period);
        assert_eq!(remaining(&verifier, &key), max);
        assert_eq!(server.caller(&key).get("/protected").status, 200);
        let request = json!({"api_key": key["api_key"], "cost": 1_000_000});
        for times in 1..=3 {
            let quota = verify_key(&verifier, &request)["quota"].clone();
            let left = max - 1 - times * 1_000_000;
            assert_eq!(quota["remaining"], left, "{period}");
            assert_eq!(quota["limit"], max);
        }
    }
}

fn rate_limit_is_checked_first_and_refunded_when_the_quota_rejects(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    set_clock_to_noon(&server);
    let key_with_both_limits = |limit: u64, quota_limit: u64| {
        let settings = json!({
            "rate_limit": rate_limit(limit, DAY), "quota": quota(quota_limit, "day"),
        });
        ada.create_key_with(&settings)
    };
    let key = key_with_both_limits(10, 3);
    assert_eq!(spend(&server, &key).0, 3);
    for cost in [1, 5, 7, 1] {
        let request = json!({"api_key": key["api_key"], "cost": cost});
        let result = verify_key(&verifier, &request);
        assert_eq!(result["code"], "quota_exceeded", "{result}");
        assert_eq!(result["rate_limit"]["remaining"], 7, "{result}");
    }
    // Concurrent requests may hold tokens for a moment. All of them are refunded.
    for reply in concurrent_requests(&server, &key, 50) {
        assert_eq!(reply.status, 429, "{reply:?}");
    }
    for (cost, code) in [(7, "quota_exceeded"), (8, "rate_limited")] {
        let request = json!({"api_key": key["api_key"], "cost": cost});
        assert_eq!(verify_key(&verifier, &request)["code"], code);
    }

    // If both limits would reject, the rate limit does, and the quota loses nothing.
    let key = key_with_both_limits(3, 3);
    assert_eq!(use_up(&server.caller(&key), "rate_limited").0, 3);
    let key = key_with_both_limits(3, 5);
    let caller = server.caller(&key);
    assert_eq!(use_up(&caller, "rate_limited").0, 3);
    for _ in 0..10 {
        caller.get("/protected").assert_problem(429, "rate_limited");
    }
    assert_eq!(remaining(&verifier, &key), 2);
    set_clock(&server, next_day(&server) - TimeDelta::seconds(30));
    assert_eq!(use_up(&caller, "rate_limited").0, 1);
    assert_eq!(remaining(&verifier, &key), 1);
}

fn request_rejected_for_another_reason_consumes_no_quota(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"quota": quota(3, "total"), "scopes": ["a"]}));
    let caller = server.caller(&key);
    for _ in 0..5 {
        caller
            .get("/forward-auth?scope=b")
            .assert_problem(403, "insufficient_scope");
    }
    assert_eq!(caller.get("/forward-auth?scope=a").status, 200);
    assert_eq!(spend(&server, &key).0, 2);
    caller
        .get("/forward-auth?scope=b")
        .assert_problem(403, "insufficient_scope");
    let reply = caller.get("/forward-auth?scope=a");
    reply.assert_problem(429, "quota_exceeded");
    assert_eq!(retry_after(&reply), DAY);
}

fn keys_have_independent_quotas(server: TestServer) {
    let ada = server.user("ada@example.com");
    let keys: Vec<_> = (0..20).map(|_| with_quota(&ada, 3, "month")).collect();
    for key in &keys {
        assert_eq!(spend(&server, key).0, 3);
    }
    for key in &keys {
        assert_eq!(spend(&server, key).0, 0);
    }
    assert_eq!(
        server.caller(&ada.create_key()).get("/protected").status,
        200
    );
}
