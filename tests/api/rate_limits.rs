//! Rate limits of keys: token buckets that are refilled evenly over a window.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    limit_settings::rate_limit,
    on_both_databases,
    support::{Client, Reply, TestServer, path_of},
    verify::{verifier, verify_key},
};

pub const HOUR: u64 = 3600;
pub const DAY: u64 = 24 * HOUR;
/// Upper bound of the real time that a few requests of a test take, in seconds.
const MOMENT: u64 = 60;

/// Creates a key with this rate limit.
pub fn limited(client: &Client, limit: u64, window_seconds: u64) -> Value {
    client.create_key_with(&json!({"rate_limit": rate_limit(limit, window_seconds)}))
}

pub fn retry_after(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

/// Uses a key this many times and asserts that it is accepted each time.
#[track_caller]
pub fn use_key(server: &TestServer, key: &Value, times: usize) {
    let caller = server.caller(key);
    for _ in 0..times {
        let reply = caller.get("/protected");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

/// Uses a key until it is rejected with this code. Returns the number of accepted requests and `Retry-After`
/// in seconds.
#[track_caller]
pub fn use_up(caller: &Client, code: &str) -> (u64, u64) {
    for uses in 0..1000 {
        let reply = caller.get("/protected");
        if reply.status != 200 {
            reply.assert_problem(429, code);
            return (uses, retry_after(&reply));
        }
    }
    panic!("not rejected");
}

/// Uses a key until its rate limit rejects it.
#[track_caller]
fn exhaust(caller: &Client) -> (u64, u64) {
    use_up(caller, "rate_limited")
}

#[track_caller]
pub fn assert_soon_before(seconds: u64, expected: u64) {
    let before = expected.saturating_sub(MOMENT).max(1)..=expected;
    assert!(before.contains(&seconds), "{seconds} is not {expected}");
}

/// Sends concurrent requests with a key, each over its own connection, and returns their responses.
pub fn concurrent_requests(server: &TestServer, key: &Value, callers: usize) -> Vec<Reply> {
    let threads: Vec<_> = (0..callers)
        .map(|_| {
            let caller = server.caller(key);
            thread::spawn(move || caller.get("/protected"))
        })
        .collect();
    let replies = threads.into_iter().map(|thread| thread.join().unwrap());
    replies.collect()
}

/// Asserts that this many requests were accepted, and the others rejected with this code.
#[track_caller]
pub fn assert_accepted(replies: Vec<Reply>, expected: usize, code: &str) {
    let (accepted, rejected): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(accepted.len(), expected);
    for reply in rejected {
        reply.assert_problem(429, code);
    }
}

/// Verifies a key in one batch, once with each cost, and returns the codes of the results.
fn batch(verifier: &Client, key: &Value, costs: &[u64]) -> Vec<String> {
    let request = |cost: &u64| json!({"api_key": key["api_key"], "cost": cost});
    let requests: Vec<_> = costs.iter().map(request).collect();
    let reply = verifier.post_json("/verify/batch", &json!({"keys": requests}));
    assert_eq!(reply.status, 200, "{reply:?}");
    let results = reply.json()["results"].as_array().unwrap().clone();
    let code = |result: &Value| result["code"].as_str().unwrap().to_owned();
    results.iter().map(code).collect()
}

fn count(codes: &[String], code: &str) -> usize {
    codes.iter().filter(|found| *found == code).count()
}

mod with_cache {
    use super::*;

    on_both_databases! {
        |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
        burst_up_to_the_limit_is_accepted_and_then_rejected,
        used_tokens_are_refilled_evenly,
        tokens_are_refilled_evenly_when_the_window_is_not_divisible,
        bucket_is_full_after_one_window_and_never_above_the_limit,
        smallest_and_largest_rate_limits_are_exact,
        concurrent_requests_are_accepted_exactly_up_to_the_rate_limit,
        request_consumes_its_whole_cost_in_tokens_or_nothing,
        forward_auth_and_batch_share_the_tokens_of_a_key,
        keys_have_independent_rate_limits,
        request_rejected_for_another_reason_consumes_no_tokens,
    }

    fn burst_up_to_the_limit_is_accepted_and_then_rejected(server: TestServer) {
        let ada = server.user("ada@example.com");
        for (limit, window) in [(1, HOUR), (10, 10 * HOUR), (60, DAY)] {
            let caller = server.caller(&limited(&ada, limit, window));
            let (uses, wait) = exhaust(&caller);
            assert_eq!(uses, limit);
            assert_soon_before(wait, window / limit);
            // A rejected request consumes no token, so the wait does not grow.
            for _ in 0..20 {
                let reply = caller.get("/protected");
                reply.assert_problem(429, "rate_limited");
                assert_soon_before(retry_after(&reply), wait);
            }
            server.advance(Duration::from_secs(wait));
            assert_eq!(exhaust(&caller).0, 1);
        }
    }

    fn used_tokens_are_refilled_evenly(server: TestServer) {
        let ada = server.user("ada@example.com");
        // One token per hour.
        let caller = server.caller(&limited(&ada, 24, DAY));
        assert_eq!(exhaust(&caller).0, 24);
        let mut uses = 0;
        for thirds in 1..=60 {
            server.advance(Duration::from_secs(HOUR / 3));
            let (more, wait) = exhaust(&caller);
            uses += more;
            assert_eq!(uses, thirds / 3);
            assert_soon_before(wait, HOUR - thirds % 3 * (HOUR / 3));
        }
    }

    fn tokens_are_refilled_evenly_when_the_window_is_not_divisible(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        // One token every 8.64 ms, and one every 3 hours, 25 minutes and 42 6/7 seconds.
        let (fine, coarse) = (limited(&ada, 10_000_000, DAY), limited(&ada, 7, DAY));
        let million = [1_000_000; 11];
        assert_eq!(count(&batch(&verifier, &fine, &million), "valid"), 10);
        let caller = server.caller(&coarse);
        assert_eq!(exhaust(&caller).0, 7);
        server.advance(Duration::from_secs(DAY / 2));
        let probe = json!({"api_key": fine["api_key"], "cost": 0});
        let remaining = verify_key(&verifier, &probe)["rate_limit"]["remaining"].clone();
        let in_a_moment = MOMENT * 10_000_000 / DAY;
        let half = 5_000_000..=5_000_000 + in_a_moment;
        assert!(half.contains(&remaining.as_u64().unwrap()), "{remaining}");
        // Half a window refills three and a half tokens.
        assert_eq!(exhaust(&caller).0, 3);
        let mut uses = 3;
        for day in 1..=10 {
            server.advance(Duration::from_secs(DAY - HOUR));
            uses += exhaust(&caller).0;
            server.advance(Duration::from_secs(HOUR));
            uses += exhaust(&caller).0;
            assert_eq!(uses, 7 * day + 3);
        }
    }

    fn bucket_is_full_after_one_window_and_never_above_the_limit(server: TestServer) {
        let ada = server.user("ada@example.com");
        let [early, late] = [(); 2].map(|()| server.caller(&limited(&ada, 10, HOUR)));
        for caller in [&early, &late] {
            assert_eq!(exhaust(caller).0, 10);
        }
        server.advance(Duration::from_secs(HOUR - MOMENT));
        assert_eq!(exhaust(&early).0, 9);
        server.advance(Duration::from_secs(MOMENT));
        assert_eq!(exhaust(&early).0, 1);
        assert_eq!(exhaust(&late).0, 10);
        server.advance(Duration::from_secs(30 * DAY));
        for caller in [&early, &late] {
            assert_eq!(exhaust(caller).0, 10);
        }
    }

    fn smallest_and_largest_rate_limits_are_exact(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 1, 1);
        for _ in 0..3 {
            // In one batch, since the token is refilled after a second.
            let codes = batch(&verifier, &key, &[1; 20]);
            assert_eq!(count(&codes, "valid"), 1, "{codes:?}");
            assert_eq!(count(&codes, "rate_limited"), 19, "{codes:?}");
            server.advance(Duration::from_secs(1));
        }
        let max = 1 << 53;
        for window in [1, DAY] {
            let key = limited(&ada, max, window);
            let request = json!({"api_key": key["api_key"], "cost": 1_000_000});
            let limit = verify_key(&verifier, &request)["rate_limit"].clone();
            let expected = json!({
                "limit": max, "remaining": max - 1_000_000, "reset_seconds": 1,
            });
            assert_eq!(limit, expected);
            let codes = batch(&verifier, &key, &[1_000_000; 100]);
            assert_eq!(count(&codes, "valid"), 100);
            assert_eq!(server.caller(&key).get("/protected").status, 200);
            server.advance(Duration::from_secs(2 * DAY));
            let probe = json!({"api_key": key["api_key"], "cost": 0});
            let expected = json!({"limit": max, "remaining": max, "reset_seconds": 0});
            assert_eq!(verify_key(&verifier, &probe)["rate_limit"], expected);
        }
    }

    fn concurrent_requests_are_accepted_exactly_up_to_the_rate_limit(server: TestServer) {
        let ada = server.user("ada@example.com");
        let key = limited(&ada, 50, DAY);
        assert_accepted(concurrent_requests(&server, &key, 200), 50, "rate_limited");
        // Half of the tokens are refilled.
        server.advance(Duration::from_secs(DAY / 2));
        assert_accepted(concurrent_requests(&server, &key, 100), 25, "rate_limited");
    }

    fn request_consumes_its_whole_cost_in_tokens_or_nothing(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, 10 * HOUR);
        for (cost, code, remaining) in [
            (0, "valid", 10),
            (11, "rate_limited", 10),
            (7, "valid", 3),
            (4, "rate_limited", 3),
            (1_000_000, "rate_limited", 3),
            (3, "valid", 0),
            (0, "valid", 0),
            (1, "rate_limited", 0),
        ] {
            let result = verify_key(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
            assert_eq!(result["code"], code, "{cost}: {result}");
            assert_eq!(result["rate_limit"]["limit"], 10);
            assert_eq!(result["rate_limit"]["remaining"], remaining, "{cost}");
        }
        // After `reset_seconds` a request with the whole cost is accepted.
        let request = json!({"api_key": key["api_key"], "cost": 4});
        let wait = verify_key(&verifier, &request)["rate_limit"]["reset_seconds"].clone();
        assert_soon_before(wait.as_u64().unwrap(), 4 * HOUR);
        server.advance(Duration::from_secs(wait.as_u64().unwrap()));
        let codes = batch(&verifier, &key, &[5, 4, 1]);
        assert_eq!(codes, ["rate_limited", "valid", "rate_limited"]);
        // The default cost is 1.
        let default = json!({"api_key": key["api_key"]});
        assert_eq!(verify_key(&verifier, &default)["code"], "rate_limited");
        server.advance(Duration::from_secs(HOUR));
        assert_eq!(verify_key(&verifier, &default)["code"], "valid");
    }

    fn forward_auth_and_batch_share_the_tokens_of_a_key(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, DAY);
        let caller = server.caller(&key);
        for _ in 0..2 {
            assert_eq!(caller.get("/forward-auth").status, 200);
            assert_eq!(caller.get("/protected").status, 200);
        }
        assert_eq!(batch(&verifier, &key, &[2, 1]), ["valid", "valid"]);
        assert_eq!(caller.post("/forward-auth").status, 200);
        assert_eq!(exhaust(&caller).0, 2);
        let reply = caller.get("/forward-auth");
        reply.assert_problem(429, "rate_limited");
        assert_eq!(reply.header("x-api-key-id"), None);
    }

    fn keys_have_independent_rate_limits(server: TestServer) {
        let ada = server.user("ada@example.com");
        let keys: Vec<_> = (0..20).map(|_| limited(&ada, 3, DAY)).collect();
        let unlimited = ada.create_key();
        for key in &keys {
            assert_eq!(exhaust(&server.caller(key)).0, 3);
        }
        for key in &keys {
            assert_eq!(exhaust(&server.caller(key)).0, 0);
        }
        for _ in 0..30 {
            assert_eq!(server.caller(&unlimited).get("/protected").status, 200);
        }
    }

    fn request_rejected_for_another_reason_consumes_no_tokens(server: TestServer) {
        let ada = server.user("ada@example.com");
        let key = ada.create_key_with(&json!({
            "rate_limit": rate_limit(3, DAY), "ip_allowlist": ["192.0.2.1"],
        }));
        let (caller, path) = (server.caller(&key), path_of(&key));
        let assert_rejected = |path: &str, status: u16, code: &str| {
            for _ in 0..5 {
                caller.get(path).assert_problem(status, code);
            }
        };
        assert_rejected("/protected", 403, "ip_not_allowed");
        ada.patch_json(&path, &json!({"ip_allowlist": null}));
        assert_rejected("/forward-auth?scope=x", 403, "insufficient_scope");
        ada.patch_json(&path, &json!({"enabled": false}));
        assert_rejected("/protected", 401, "invalid_api_key");
        ada.patch_json(&path, &json!({"enabled": true}));
        assert_eq!(exhaust(&caller).0, 3);
        // An exhausted limit does not hide a reason that comes first in the order of the contract.
        assert_rejected("/forward-auth?scope=x", 403, "insufficient_scope");
        ada.patch_json(&path, &json!({"enabled": false}));
        assert_rejected("/protected", 401, "invalid_api_key");
    }
}
