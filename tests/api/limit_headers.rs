//! Response headers that report the limits of the caller's key: `RateLimit-Policy`, `RateLimit` and `Retry-After`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sfv::{BareItem, Item, List, ListEntry, Parser};

use crate::{
    limit_settings::{quota, rate_limit},
    on_both_databases,
    quotas::{next_month, set_clock, set_clock_to_noon, with_quota},
    rate_limits::{DAY, HOUR, assert_soon_before, limited, retry_after, use_key},
    support::{Client, Reply, TestServer, path_of},
};

/// Largest integer that a structured field may hold (RFC 9651).
const LARGEST: u64 = 999_999_999_999_999;

/// Parses a header as a list of structured fields (RFC 9651): the name of each limit with its integer parameters.
/// Returns `null` if the header is absent.
#[track_caller]
fn parse_limits(reply: &Reply, header: &str) -> Value {
    let lines = reply.headers.get_all(header).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
    if lines.is_empty() {
        return Value::Null;
    }
    let list: List = Parser::new(&lines.join(", ")).parse().unwrap();
    let limit = |entry: ListEntry| match entry {
        ListEntry::Item(Item {
            bare_item: BareItem::String(name),
            params,
        }) => {
            let number = |value: BareItem| i64::from(value.as_integer().expect("an integer"));
            let params = params
                .into_iter()
                .map(|(name, value)| (name.as_str().to_owned(), json!(number(value))));
            json!([name.as_str(), params.collect::<Map<_, _>>()])
        }
        other => panic!("{other:?}"),
    };
    list.into_iter().map(limit).collect()
}

#[track_caller]
pub fn policy(reply: &Reply) -> Value {
    parse_limits(reply, "ratelimit-policy")
}

#[track_caller]
pub fn state(reply: &Reply) -> Value {
    parse_limits(reply, "ratelimit")
}

/// Asserts that `RateLimit` lists exactly these limits: name, remaining amount, and seconds until reset.
/// The reset may be up to a minute earlier than `expected`.
#[track_caller]
pub fn assert_state(reply: &Reply, expected: &[(&str, u64, Option<u64>)]) {
    let state = state(reply);
    assert_eq!(
        state.as_array().map(Vec::len),
        Some(expected.len()),
        "{state}"
    );
    for (found, (name, left, seconds)) in state.as_array().unwrap().iter().zip(expected) {
        assert_eq!((&found[0], &found[1]["r"]), (&json!(name), &json!(left)));
        let members = found[1].as_object().unwrap();
        assert_eq!(members.len(), 1 + usize::from(seconds.is_some()), "{state}");
        match seconds {
            Some(0) => assert_eq!(found[1]["t"], 0),
            Some(seconds) => assert_soon_before(found[1]["t"].as_u64().unwrap(), *seconds),
            None => {}
        }
    }
}

#[track_caller]
pub fn assert_no_limit_headers(reply: &Reply) {
    assert_eq!((policy(reply), state(reply)), (Value::Null, Value::Null));
}

pub fn key_with_both_limits(client: &Client, limit: u64, quota_limit: u64) -> Value {
    let settings = json!({
        "rate_limit": rate_limit(limit, DAY), "quota": quota(quota_limit, "day"),
    });
    client.create_key_with(&settings)
}

on_both_databases! {
    |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
    accepted_request_gets_the_headers_of_both_limits,
    limit_headers_name_only_the_limits_that_the_key_has,
    quota_window_is_the_length_of_the_month_and_absent_for_a_total,
    exhausted_total_quota_reports_the_same_wait_as_retry_after,
    limited_request_gets_its_wait_in_ratelimit_and_retry_after,
    forbidden_request_gets_limit_headers_and_consumes_nothing,
    unauthenticated_request_gets_no_limit_headers,
    limit_headers_cap_numbers_at_the_largest_structured_integer,
}

fn accepted_request_gets_the_headers_of_both_limits(server: TestServer) {
    let ada = server.user("ada@example.com");
    set_clock_to_noon(&server);
    let caller = server.caller(&key_with_both_limits(&ada, 24, 1000));
    for (path, uses) in [("/protected", 1), ("/forward-auth", 2), ("/protected", 3)] {
        let reply = caller.get(path);
        assert_eq!(reply.status, 200, "{reply:?}");
        let policies = json!([["key", {"q": 24, "w": DAY}], ["quota", {"q": 1000, "w": DAY}]]);
        assert_eq!(policy(&reply), policies);
        let (back, midnight) = (Some(uses * HOUR), Some(DAY / 2));
        assert_state(
            &reply,
            &[("key", 24 - uses, back), ("quota", 1000 - uses, midnight)],
        );
        assert_eq!(reply.header("retry-after"), None);
    }
    server.advance(Duration::from_secs(2 * HOUR));
    let (back, midnight) = (Some(2 * HOUR), Some(10 * HOUR));
    let reply = caller.get("/protected");
    assert_state(&reply, &[("key", 22, back), ("quota", 996, midnight)]);
}

fn limit_headers_name_only_the_limits_that_the_key_has(server: TestServer) {
    let ada = server.user("ada@example.com");
    set_clock_to_noon(&server);
    let reply = server.caller(&limited(&ada, 1, HOUR)).get("/protected");
    assert_eq!(policy(&reply), json!([["key", {"q": 1, "w": HOUR}]]));
    assert_state(&reply, &[("key", 0, Some(HOUR))]);
    let reply = server.caller(&with_quota(&ada, 1, "day")).get("/protected");
    assert_eq!(policy(&reply), json!([["quota", {"q": 1, "w": DAY}]]));
    assert_state(&reply, &[("quota", 0, Some(DAY / 2))]);
    for path in ["/protected", "/forward-auth", "/forward-auth?scope=x"] {
        assert_no_limit_headers(&server.caller(&ada.create_key()).get(path));
    }
}

fn quota_window_is_the_length_of_the_month_and_absent_for_a_total(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = with_quota(&ada, 100, "month");
    // The 12 months include February.
    for _ in 0..12 {
        let first = next_month(&server);
        set_clock(&server, first);
        let reply = server.caller(&key).get("/protected");
        let length = (next_month(&server) - first).num_seconds();
        let policies = json!([["quota", {"q": 100, "w": length}]]);
        assert_eq!(policy(&reply), policies, "{first}");
        let until_next = Some(length.try_into().unwrap());
        assert_state(&reply, &[("quota", 99, until_next)]);
    }
    let caller = server.caller(&with_quota(&ada, 2, "total"));
    for left in [1, 0] {
        let reply = caller.get("/protected");
        assert_eq!(policy(&reply), json!([["quota", {"q": 2}]]));
        assert_state(&reply, &[("quota", left, None)]);
    }
}

fn exhausted_total_quota_reports_the_same_wait_as_retry_after(server: TestServer) {
    let ada = server.user("ada@example.com");
    let caller = server.caller(&with_quota(&ada, 1, "total"));
    assert_eq!(caller.get("/protected").status, 200);
    let reply = caller.get("/protected");
    reply.assert_problem(429, "quota_exceeded");
    assert_eq!(retry_after(&reply), DAY);
    assert_eq!(policy(&reply), json!([["quota", {"q": 1}]]));
    assert_eq!(state(&reply), json!([["quota", {"r": 0, "t": DAY}]]));
}

fn limited_request_gets_its_wait_in_ratelimit_and_retry_after(server: TestServer) {
    let ada = server.user("ada@example.com");
    set_clock_to_noon(&server);
    let by_rate = key_with_both_limits(&ada, 24, 1000);
    use_key(&server, &by_rate, 24);
    let by_quota = key_with_both_limits(&ada, 24, 4);
    use_key(&server, &by_quota, 4);
    for path in ["/protected", "/forward-auth"] {
        let reply = server.caller(&by_rate).get(path);
        reply.assert_problem(429, "rate_limited");
        let policies = json!([["key", {"q": 24, "w": DAY}], ["quota", {"q": 1000, "w": DAY}]]);
        assert_eq!(policy(&reply), policies);
        let (next, midnight) = (Some(HOUR), Some(DAY / 2));
        assert_state(&reply, &[("key", 0, next), ("quota", 976, midnight)]);
        assert_eq!(state(&reply)[0][1]["t"], retry_after(&reply));

        let reply = server.caller(&by_quota).get(path);
        reply.assert_problem(429, "quota_exceeded");
        let (back, midnight) = (Some(4 * HOUR), Some(DAY / 2));
        assert_state(&reply, &[("key", 20, back), ("quota", 0, midnight)]);
        assert_eq!(state(&reply)[1][1]["t"], retry_after(&reply));
    }
}

fn forbidden_request_gets_limit_headers_and_consumes_nothing(server: TestServer) {
    let ada = server.user("ada@example.com");
    set_clock_to_noon(&server);
    let key = key_with_both_limits(&ada, 24, 1000);
    let caller = server.caller(&key);
    let policies = json!([["key", {"q": 24, "w": DAY}], ["quota", {"q": 1000, "w": DAY}]]);
    for uses in [0, 3] {
        use_key(&server, &key, uses);
        let uses = uses as u64;
        let networks = json!({"ip_allowlist": ["192.0.2.1"]});
        ada.patch_json(&path_of(&key), &networks);
        let outside = caller.get("/protected");
        outside.assert_problem(403, "ip_not_allowed");
        ada.patch_json(&path_of(&key), &json!({"ip_allowlist": null}));
        let without_scope = caller.get("/forward-auth?scope=x");
        without_scope.assert_problem(403, "insufficient_scope");
        for reply in [outside, without_scope] {
            assert_eq!(policy(&reply), policies);
            let (back, midnight) = (Some(uses * HOUR), Some(DAY / 2));
            assert_state(
                &reply,
                &[("key", 24 - uses, back), ("quota", 1000 - uses, midnight)],
            );
        }
    }
}

fn unauthenticated_request_gets_no_limit_headers(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = key_with_both_limits(&ada, 24, 1000);
    use_key(&server, &key, 1);
    ada.patch_json(&path_of(&key), &json!({"enabled": false}));
    for path in ["/protected", "/forward-auth"] {
        for client in [
            server.caller(&key),
            server.anonymous(),
            server
                .anonymous()
                .with_key("sk_live_ExampleExampleExampleExample12344Lvtrp"),
        ] {
            let reply = client.get(path);
            assert_eq!(reply.status, 401, "{reply:?}");
            assert_no_limit_headers(&reply);
        }
    }
    // Routes that take no API key have no limit headers either.
    assert_no_limit_headers(&ada.get("/auth/me"));
    assert_no_limit_headers(&ada.get("/api-keys"));
}

fn limit_headers_cap_numbers_at_the_largest_structured_integer(server: TestServer) {
    let ada = server.user("ada@example.com");
    for (limit, shown) in [
        (LARGEST - 1, LARGEST - 1),
        (LARGEST, LARGEST),
        (LARGEST + 1, LARGEST),
        (1 << 53, LARGEST),
    ] {
        let key = ada.create_key_with(&json!({
            "rate_limit": rate_limit(limit, DAY), "quota": quota(limit, "total"),
        }));
        let reply = server.caller(&key).get("/protected");
        let policies = json!([["key", {"q": shown, "w": DAY}], ["quota", {"q": shown}]]);
        assert_eq!(policy(&reply), policies);
        let left = LARGEST.min(limit - 1);
        let states = json!([["key", {"r": left, "t": 1}], ["quota", {"r": left}]]);
        assert_eq!(state(&reply), states);
    }
}
