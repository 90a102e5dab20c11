//! How much of a key may be used in a day, a month, or ever.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    key_settings::time,
    limit_settings::{quota, rate_limit},
    on_both_databases,
    rate_limits::{DAY, assert_let_in, assert_soon_before, at_once, retry_after, use_up},
    support::{Client, TestServer},
    verify::{ask, verifier},
};

/// The time by the service's clock.
pub fn now(server: &TestServer) -> DateTime<Utc> {
    let text = time(server, 0);
    DateTime::parse_from_rfc3339(&text).unwrap().to_utc()
}

/// When the next day begins.
pub fn next_day(server: &TestServer) -> DateTime<Utc> {
    let tomorrow = now(server).date_naive() + Days::new(1);
    tomorrow.and_time(NaiveTime::MIN).and_utc()
}

/// When the next month begins.
pub fn next_month(server: &TestServer) -> DateTime<Utc> {
    let first = now(server).date_naive().with_day(1).unwrap();
    (first + Months::new(1)).and_time(NaiveTime::MIN).and_utc()
}

/// Moves the service's clock, forward or back.
pub fn go_to(server: &TestServer, at: DateTime<Utc>) {
    let way = at - now(server);
    match way.to_std() {
        Ok(forward) => server.advance(forward),
        Err(_) => server.clock.set_back(way.abs().to_std().unwrap()),
    }
}

/// Moves the service's clock to where no day or month ends while a test asks a few times.
pub fn go_to_noon(server: &TestServer) {
    go_to(server, next_day(server) + TimeDelta::hours(12));
}

/// A key that may be used so often in a period.
pub fn with_quota(client: &Client, limit: u64, period: &str) -> Value {
    client.create_key_with(&json!({"quota": quota(limit, period)}))
}

/// How often a key is let in until its quota refuses it, and for how long it is refused then.
#[track_caller]
pub fn spend(server: &TestServer, key: &Value) -> (u64, u64) {
    use_up(&server.caller(key), "quota_exceeded")
}

/// What is left of a key's quota, by a look that takes nothing.
#[track_caller]
pub fn remaining(verifier: &Client, key: &Value) -> u64 {
    let look = json!({"api_key": key["api_key"], "cost": 0});
    let quota = ask(verifier, &look)["quota"].clone();
    quota["remaining"].as_u64().expect("a quota")
}

on_both_databases! {
    |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
    a_key_is_let_in_as_often_as_its_quota_says,
    a_day_ends_at_midnight_in_utc,
    a_month_ends_with_its_last_day,
    a_total_never_comes_back,
    of_many_at_once_as_many_are_let_in_as_the_quota_says,
    a_use_takes_all_that_it_costs_or_nothing,
    the_largest_quota_is_exact,
    the_rate_limit_is_asked_first_and_given_back_what_the_quota_refuses,
    who_is_refused_for_another_reason_takes_nothing,
    keys_do_not_disturb_each_other,
}

fn a_key_is_let_in_as_often_as_its_quota_says(server: TestServer) {
    let ada = server.user("ada@example.com");
    go_to_noon(&server);
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

fn a_day_ends_at_midnight_in_utc(server: TestServer) {
    let ada = server.user("ada@example.com");
    go_to_noon(&server);
    let key = with_quota(&ada, 3, "day");
    let (uses, wait) = spend(&server, &key);
    assert_eq!(uses, 3);
    assert_soon_before(wait, DAY / 2);
    for _ in 0..3 {
        let midnight = next_day(&server);
        go_to(&server, midnight - TimeDelta::seconds(30));
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 0);
        assert_soon_before(wait, 30);
        go_to(&server, midnight);
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 3);
        assert_soon_before(wait, DAY);
    }
    // What was not used is not there on another day.
    go_to(&server, next_day(&server) + TimeDelta::days(20));
    assert_eq!(spend(&server, &key).0, 3);
}

fn a_month_ends_with_its_last_day(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = with_quota(&ada, 3, "month");
    // All twelve, whatever day it is.
    for _ in 0..13 {
        let first = next_month(&server);
        go_to(&server, first);
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 3, "{first}");
        let length = next_month(&server) - first;
        assert_soon_before(wait, length.num_seconds().try_into().unwrap());
        // Its days are of no account.
        go_to(&server, next_day(&server));
        assert_eq!(spend(&server, &key).0, 0, "{first}");
        go_to(&server, next_month(&server) - TimeDelta::seconds(30));
        let (uses, wait) = spend(&server, &key);
        assert_eq!(uses, 0, "{first}");
        assert_soon_before(wait, 30);
    }
}

fn a_total_never_comes_back(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = with_quota(&ada, 3, "total");
    assert_eq!(spend(&server, &key), (3, DAY));
    for days in [1, 31, 366, 3660] {
        server.advance(Duration::from_secs(days * DAY));
        assert_eq!(spend(&server, &key), (0, DAY));
    }
}

fn of_many_at_once_as_many_are_let_in_as_the_quota_says(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
    for period in ["day", "month", "total"] {
        let key = with_quota(&ada, 50, period);
        assert_let_in(at_once(&server, &key, 200), 50, "quota_exceeded");
        assert_eq!(remaining(&verifier, &key), 0);
    }
}

fn a_use_takes_all_that_it_costs_or_nothing(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
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
        let answer = ask(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
        assert_eq!(answer["code"], code, "{cost}: {answer}");
        assert_eq!(answer["quota"]["limit"], 10);
        assert_eq!(answer["quota"]["remaining"], left, "{cost}");
    }
    // However it is cut up: all of it can be spent, to the last unit.
    let key = with_quota(&ada, 1_234_567, "total");
    for cost in [1_000_000, 1, 200_000, 34_000, 500, 60, 5] {
        let answer = ask(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
        assert_eq!(answer["code"], "valid", "{cost}: {answer}");
    }
    assert_eq!(spend(&server, &key).0, 1);
}

fn the_largest_quota_is_exact(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
    let most = 1 << 53;
    for period in ["day", "month", "total"] {
        let key = with_quota(&ada, most, period);
        assert_eq!(remaining(&verifier, &key), most);
        assert_eq!(server.caller(&key).get("/protected").status, 200);
        let question = json!({"api_key": key["api_key"], "cost": 1_000_000});
        for times in 1..=3 {
            let quota = ask(&verifier, &question)["quota"].clone();
            let left = most - 1 - times * 1_000_000;
            assert_eq!(quota["remaining"], left, "{period}");
            assert_eq!(quota["limit"], most);
        }
    }
}

fn the_rate_limit_is_asked_first_and_given_back_what_the_quota_refuses(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    go_to_noon(&server);
    let with_both = |limit: u64, in_all: u64| {
        let chosen = json!({"rate_limit": rate_limit(limit, DAY), "quota": quota(in_all, "day")});
        ada.create_key_with(&chosen)
    };
    let key = with_both(10, 3);
    assert_eq!(spend(&server, &key).0, 3);
    for cost in [1, 5, 7, 1] {
        let question = json!({"api_key": key["api_key"], "cost": cost});
        let answer = ask(&verifier, &question);
        assert_eq!(answer["code"], "quota_exceeded", "{answer}");
        assert_eq!(answer["rate_limit"]["remaining"], 7, "{answer}");
    }
    // For a moment some may hold what others would take; it is all given back.
    for reply in at_once(&server, &key, 50) {
        assert_eq!(reply.status, 429, "{reply:?}");
    }
    for (cost, code) in [(7, "quota_exceeded"), (8, "rate_limited")] {
        let question = json!({"api_key": key["api_key"], "cost": cost});
        assert_eq!(ask(&verifier, &question)["code"], code);
    }

    // Where both would refuse, the rate limit does. It takes nothing of the quota.
    let key = with_both(3, 3);
    assert_eq!(use_up(&server.caller(&key), "rate_limited").0, 3);
    let key = with_both(3, 5);
    let caller = server.caller(&key);
    assert_eq!(use_up(&caller, "rate_limited").0, 3);
    for _ in 0..10 {
        caller.get("/protected").assert_problem(429, "rate_limited");
    }
    assert_eq!(remaining(&verifier, &key), 2);
    go_to(&server, next_day(&server) - TimeDelta::seconds(30));
    assert_eq!(use_up(&caller, "rate_limited").0, 1);
    assert_eq!(remaining(&verifier, &key), 1);
}

fn who_is_refused_for_another_reason_takes_nothing(server: TestServer) {
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

fn keys_do_not_disturb_each_other(server: TestServer) {
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
