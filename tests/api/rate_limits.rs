//! How often a key may be used in a window of time.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    limit_settings::rate_limit,
    on_both_databases,
    support::{Client, Reply, TestServer, path_of},
    verify::{ask, verifier},
};

pub const HOUR: u64 = 3600;
pub const DAY: u64 = 24 * HOUR;
/// More than passes of itself while a test asks a few times.
const MOMENT: u64 = 60;

/// A key that may be used so often in so many seconds.
pub fn limited(client: &Client, limit: u64, window_seconds: u64) -> Value {
    client.create_key_with(&json!({"rate_limit": rate_limit(limit, window_seconds)}))
}

pub fn retry_after(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

/// Uses a key so often, and is let in.
#[track_caller]
pub fn use_key(server: &TestServer, key: &Value, times: usize) {
    let caller = server.caller(key);
    for _ in 0..times {
        let reply = caller.get("/protected");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

/// Uses a key until it is refused for this reason: how often it was let in, and for how many seconds it
/// is refused.
#[track_caller]
pub fn use_up(caller: &Client, code: &str) -> (u64, u64) {
    for uses in 0..1000 {
        let reply = caller.get("/protected");
        if reply.status != 200 {
            reply.assert_problem(429, code);
            return (uses, retry_after(&reply));
        }
    }
    panic!("not refused");
}

/// Uses a key until its rate limit refuses it.
#[track_caller]
fn drain(caller: &Client) -> (u64, u64) {
    use_up(caller, "rate_limited")
}

#[track_caller]
pub fn assert_soon_before(seconds: u64, expected: u64) {
    let before = expected.saturating_sub(MOMENT).max(1)..=expected;
    assert!(before.contains(&seconds), "{seconds} is not {expected}");
}

/// What becomes of so many uses of a key at once, each over a connection of its own.
pub fn at_once(server: &TestServer, key: &Value, callers: usize) -> Vec<Reply> {
    let threads: Vec<_> = (0..callers)
        .map(|_| {
            let caller = server.caller(key);
            thread::spawn(move || caller.get("/protected"))
        })
        .collect();
    let replies = threads.into_iter().map(|thread| thread.join().unwrap());
    replies.collect()
}

/// Asserts that so many were let in, and the others refused for this reason.
#[track_caller]
pub fn assert_let_in(replies: Vec<Reply>, expected: usize, code: &str) {
    let (let_in, refused): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(let_in.len(), expected);
    for reply in refused {
        reply.assert_problem(429, code);
    }
}

/// The codes of the answers to a batch that asks for uses of a key that cost so much.
fn batch(verifier: &Client, key: &Value, costs: &[u64]) -> Vec<String> {
    let question = |cost: &u64| json!({"api_key": key["api_key"], "cost": cost});
    let questions: Vec<_> = costs.iter().map(question).collect();
    let reply = verifier.post_json("/verify/batch", &json!({"keys": questions}));
    assert_eq!(reply.status, 200, "{reply:?}");
    let results = reply.json()["results"].as_array().unwrap().clone();
    let code = |answer: &Value| answer["code"].as_str().unwrap().to_owned();
    results.iter().map(code).collect()
}

fn count(codes: &[String], code: &str) -> usize {
    codes.iter().filter(|found| *found == code).count()
}

mod remembered {
    use super::*;

    on_both_databases! {
        |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
        a_burst_of_the_limit_is_let_in_and_then_none,
        what_was_used_comes_back_evenly,
        what_does_not_divide_evenly_comes_back_evenly_too,
        all_is_back_after_a_window_and_never_more,
        the_smallest_and_the_largest_limits_are_exact,
        of_many_at_once_as_many_are_let_in_as_the_limit_says,
        a_use_takes_all_that_it_costs_or_nothing,
        a_gateway_and_a_batch_take_of_the_same,
        keys_do_not_disturb_each_other,
        who_is_refused_for_another_reason_takes_nothing,
    }

    fn a_burst_of_the_limit_is_let_in_and_then_none(server: TestServer) {
        let ada = server.user("ada@example.com");
        for (limit, window) in [(1, HOUR), (10, 10 * HOUR), (60, DAY)] {
            let caller = server.caller(&limited(&ada, limit, window));
            let (uses, wait) = drain(&caller);
            assert_eq!(uses, limit);
            assert_soon_before(wait, window / limit);
            // A refusal is for free: it makes nobody wait longer.
            for _ in 0..20 {
                let reply = caller.get("/protected");
                reply.assert_problem(429, "rate_limited");
                assert_soon_before(retry_after(&reply), wait);
            }
            server.advance(Duration::from_secs(wait));
            assert_eq!(drain(&caller).0, 1);
        }
    }

    fn what_was_used_comes_back_evenly(server: TestServer) {
        let ada = server.user("ada@example.com");
        // One an hour.
        let caller = server.caller(&limited(&ada, 24, DAY));
        assert_eq!(drain(&caller).0, 24);
        let mut uses = 0;
        for thirds in 1..=60 {
            server.advance(Duration::from_secs(HOUR / 3));
            let (more, wait) = drain(&caller);
            uses += more;
            assert_eq!(uses, thirds / 3);
            assert_soon_before(wait, HOUR - thirds % 3 * (HOUR / 3));
        }
    }

    fn what_does_not_divide_evenly_comes_back_evenly_too(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        // One every 8.64 ms, and one every three hours, 25 minutes, 42 seconds and 6/7.
        let (fine, coarse) = (limited(&ada, 10_000_000, DAY), limited(&ada, 7, DAY));
        let million = [1_000_000; 11];
        assert_eq!(count(&batch(&verifier, &fine, &million), "valid"), 10);
        let caller = server.caller(&coarse);
        assert_eq!(drain(&caller).0, 7);
        server.advance(Duration::from_secs(DAY / 2));
        let look = json!({"api_key": fine["api_key"], "cost": 0});
        let remaining = ask(&verifier, &look)["rate_limit"]["remaining"].clone();
        let in_a_moment = MOMENT * 10_000_000 / DAY;
        let half = 5_000_000..=5_000_000 + in_a_moment;
        assert!(half.contains(&remaining.as_u64().unwrap()), "{remaining}");
        // Three and a half.
        assert_eq!(drain(&caller).0, 3);
        let mut uses = 3;
        for day in 1..=10 {
            server.advance(Duration::from_secs(DAY - HOUR));
            uses += drain(&caller).0;
            server.advance(Duration::from_secs(HOUR));
            uses += drain(&caller).0;
            assert_eq!(uses, 7 * day + 3);
        }
    }

    fn all_is_back_after_a_window_and_never_more(server: TestServer) {
        let ada = server.user("ada@example.com");
        let [early, late] = [(); 2].map(|()| server.caller(&limited(&ada, 10, HOUR)));
        for caller in [&early, &late] {
            assert_eq!(drain(caller).0, 10);
        }
        server.advance(Duration::from_secs(HOUR - MOMENT));
        assert_eq!(drain(&early).0, 9);
        server.advance(Duration::from_secs(MOMENT));
        assert_eq!(drain(&early).0, 1);
        assert_eq!(drain(&late).0, 10);
        server.advance(Duration::from_secs(30 * DAY));
        for caller in [&early, &late] {
            assert_eq!(drain(caller).0, 10);
        }
    }

    fn the_smallest_and_the_largest_limits_are_exact(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 1, 1);
        for _ in 0..3 {
            // At once, or it would be there again.
            let codes = batch(&verifier, &key, &[1; 20]);
            assert_eq!(count(&codes, "valid"), 1, "{codes:?}");
            assert_eq!(count(&codes, "rate_limited"), 19, "{codes:?}");
            server.advance(Duration::from_secs(1));
        }
        let most = 1 << 53;
        for window in [1, DAY] {
            let key = limited(&ada, most, window);
            let question = json!({"api_key": key["api_key"], "cost": 1_000_000});
            let limit = ask(&verifier, &question)["rate_limit"].clone();
            let expected = json!({
                "limit": most, "remaining": most - 1_000_000, "reset_seconds": 1,
            });
            assert_eq!(limit, expected);
            let codes = batch(&verifier, &key, &[1_000_000; 100]);
            assert_eq!(count(&codes, "valid"), 100);
            assert_eq!(server.caller(&key).get("/protected").status, 200);
            server.advance(Duration::from_secs(2 * DAY));
            let look = json!({"api_key": key["api_key"], "cost": 0});
            let expected = json!({"limit": most, "remaining": most, "reset_seconds": 0});
            assert_eq!(ask(&verifier, &look)["rate_limit"], expected);
        }
    }

    fn of_many_at_once_as_many_are_let_in_as_the_limit_says(server: TestServer) {
        let ada = server.user("ada@example.com");
        let key = limited(&ada, 50, DAY);
        assert_let_in(at_once(&server, &key, 200), 50, "rate_limited");
        // Half of it is back.
        server.advance(Duration::from_secs(DAY / 2));
        assert_let_in(at_once(&server, &key, 100), 25, "rate_limited");
    }

    fn a_use_takes_all_that_it_costs_or_nothing(server: TestServer) {
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
            let answer = ask(&verifier, &json!({"api_key": key["api_key"], "cost": cost}));
            assert_eq!(answer["code"], code, "{cost}: {answer}");
            assert_eq!(answer["rate_limit"]["limit"], 10);
            assert_eq!(answer["rate_limit"]["remaining"], remaining, "{cost}");
        }
        // Whoever waits as long as is said is let in, with all of it.
        let question = json!({"api_key": key["api_key"], "cost": 4});
        let wait = ask(&verifier, &question)["rate_limit"]["reset_seconds"].clone();
        assert_soon_before(wait.as_u64().unwrap(), 4 * HOUR);
        server.advance(Duration::from_secs(wait.as_u64().unwrap()));
        let codes = batch(&verifier, &key, &[5, 4, 1]);
        assert_eq!(codes, ["rate_limited", "valid", "rate_limited"]);
        // One unit that is left out is one.
        let default = json!({"api_key": key["api_key"]});
        assert_eq!(ask(&verifier, &default)["code"], "rate_limited");
        server.advance(Duration::from_secs(HOUR));
        assert_eq!(ask(&verifier, &default)["code"], "valid");
    }

    fn a_gateway_and_a_batch_take_of_the_same(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, DAY);
        let caller = server.caller(&key);
        for _ in 0..2 {
            assert_eq!(caller.get("/forward-auth").status, 200);
            assert_eq!(caller.get("/protected").status, 200);
        }
        assert_eq!(batch(&verifier, &key, &[2, 1]), ["valid", "valid"]);
        assert_eq!(caller.post("/forward-auth").status, 200);
        assert_eq!(drain(&caller).0, 2);
        let reply = caller.get("/forward-auth");
        reply.assert_problem(429, "rate_limited");
        assert_eq!(reply.header("x-api-key-id"), None);
    }

    fn keys_do_not_disturb_each_other(server: TestServer) {
        let ada = server.user("ada@example.com");
        let keys: Vec<_> = (0..20).map(|_| limited(&ada, 3, DAY)).collect();
        let unlimited = ada.create_key();
        for key in &keys {
            assert_eq!(drain(&server.caller(key)).0, 3);
        }
        for key in &keys {
            assert_eq!(drain(&server.caller(key)).0, 0);
        }
        for _ in 0..30 {
            assert_eq!(server.caller(&unlimited).get("/protected").status, 200);
        }
    }

    fn who_is_refused_for_another_reason_takes_nothing(server: TestServer) {
        let ada = server.user("ada@example.com");
        let key = ada.create_key_with(&json!({
            "rate_limit": rate_limit(3, DAY), "ip_allowlist": ["192.0.2.1"],
        }));
        let (caller, path) = (server.caller(&key), path_of(&key));
        let refused = |path: &str, status: u16, code: &str| {
            for _ in 0..5 {
                caller.get(path).assert_problem(status, code);
            }
        };
        refused("/protected", 403, "ip_not_allowed");
        ada.patch_json(&path, &json!({"ip_allowlist": null}));
        refused("/forward-auth?scope=x", 403, "insufficient_scope");
        ada.patch_json(&path, &json!({"enabled": false}));
        refused("/protected", 401, "invalid_api_key");
        ada.patch_json(&path, &json!({"enabled": true}));
        assert_eq!(drain(&caller).0, 3);
        // The reason that comes first in the contract's order is told also then.
        refused("/forward-auth?scope=x", 403, "insufficient_scope");
        ada.patch_json(&path, &json!({"enabled": false}));
        refused("/protected", 401, "invalid_api_key");
    }
}
