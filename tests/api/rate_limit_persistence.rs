//! Used tokens of a rate limit stay used: across changes of the key and of the clock, with and without cache.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    key_rotation::rotate,
    key_settings::time,
    limit_settings::{change, rate_limit},
    on_both_databases,
    rate_limits::{
        DAY, HOUR, assert_accepted, assert_soon_before, concurrent_requests, limited, use_key,
        use_up,
    },
    support::{Client, TestServer},
    verify::{verifier, verify_key},
};

/// Uses a key until its rate limit rejects it. Returns the number of accepted requests and `Retry-After` in seconds.
#[track_caller]
fn exhaust(server: &TestServer, key: &Value) -> (u64, u64) {
    use_up(&server.caller(key), "rate_limited")
}

/// Returns the remaining tokens of a key's rate limit, from a verification with cost 0.
#[track_caller]
fn remaining(verifier: &Client, key: &Value) -> u64 {
    let probe = json!({"api_key": key["api_key"], "cost": 0});
    let limit = verify_key(verifier, &probe)["rate_limit"].clone();
    limit["remaining"].as_u64().expect("a limit")
}

mod with_cache {
    use super::*;

    on_both_databases! {
        key_and_its_successors_share_one_rate_limit,
        unrelated_changes_restore_no_used_tokens,
        limit_change_keeps_the_used_tokens,
        window_change_keeps_the_used_tokens,
        clock_set_back_neither_refills_nor_blocks_a_bucket,
    }

    fn key_and_its_successors_share_one_rate_limit(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let old = limited(&ada, 10, DAY);
        use_key(&server, &old, 4);
        let new = rotate(&ada, &old, json!(600)).json();
        assert_eq!(remaining(&verifier, &new), 6);
        use_key(&server, &new, 3);
        use_key(&server, &old, 1);
        for key in [&old, &new] {
            assert_eq!(remaining(&verifier, key), 2);
        }
        let newest = rotate(&ada, &new, json!(0)).json();
        server
            .caller(&new)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
        assert_eq!(exhaust(&server, &newest).0, 2);
        for key in [&old, &newest] {
            assert_eq!(exhaust(&server, key).0, 0);
        }
        // Refilled tokens are shared by the lineage, too.
        server.advance(Duration::from_secs(DAY / 10 * 2));
        assert_eq!(exhaust(&server, &newest).0, 2);
        server
            .caller(&old)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }

    fn unrelated_changes_restore_no_used_tokens(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, DAY);
        use_key(&server, &key, 4);
        for patch in [
            json!({"name": "n"}),
            json!({"scopes": ["orders:read"]}),
            json!({"ip_allowlist": ["127.0.0.0/8"]}),
            json!({"metadata": {"a": 1}}),
            json!({"expires_at": time(&server, 3600)}),
            json!({"expires_at": null}),
            json!({"enabled": false}),
            json!({"enabled": true}),
            json!({"quota": {"limit": 1000, "period": "day"}}),
            json!({"quota": null}),
            json!({"rate_limit": {}}),
            json!({"rate_limit": rate_limit(10, DAY)}),
        ] {
            change(&ada, &key, &patch);
            if patch["enabled"] != false {
                assert_eq!(remaining(&verifier, &key), 6, "{patch}");
            }
        }
        assert_eq!(exhaust(&server, &key).0, 6);
    }

    fn limit_change_keeps_the_used_tokens(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, DAY);
        let set = |limit: u64| drop(change(&ada, &key, &json!({"rate_limit": {"limit": limit}})));
        use_key(&server, &key, 5);
        for (limit, left) in [(20, 15), (10, 5), (6, 1), (8, 3)] {
            set(limit);
            assert_eq!(remaining(&verifier, &key), left, "{limit}");
        }
        // More tokens were used than the new limit has. They count as the whole limit, so that no wait is longer
        // than one window.
        set(2);
        let (uses, wait) = exhaust(&server, &key);
        assert_eq!(uses, 0);
        assert_soon_before(wait, DAY / 2);
        server.advance(Duration::from_secs(wait));
        assert_eq!(exhaust(&server, &key).0, 1);
    }

    fn window_change_keeps_the_used_tokens(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, DAY);
        use_key(&server, &key, 5);
        for window in [DAY / 2, DAY, HOUR] {
            let patch = json!({"rate_limit": {"window_seconds": window}});
            change(&ada, &key, &patch);
            assert_eq!(remaining(&verifier, &key), 5, "{window}");
        }
        let (uses, wait) = exhaust(&server, &key);
        assert_eq!(uses, 5);
        assert_soon_before(wait, HOUR / 10);
    }

    fn clock_set_back_neither_refills_nor_blocks_a_bucket(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let (used, fresh) = (limited(&ada, 10, 10 * HOUR), limited(&ada, 10, 10 * HOUR));
        assert_eq!(exhaust(&server, &used).0, 10);
        use_key(&server, &fresh, 4);
        for back in [1, HOUR, 400 * DAY] {
            server.clock.set_back(Duration::from_secs(back));
            assert_eq!(remaining(&verifier, &fresh), 6, "{back}");
            let (uses, wait) = exhaust(&server, &used);
            assert_eq!(uses, 0, "{back}");
            assert_soon_before(wait, HOUR);
        }
        assert_eq!(exhaust(&server, &fresh).0, 6);
        // From here on the bucket is refilled as usual.
        server.advance(Duration::from_secs(HOUR));
        for key in [&used, &fresh] {
            assert_eq!(exhaust(&server, key).0, 1);
        }
    }
}

mod without_cache {
    use super::*;

    on_both_databases! {
        |config| config.cache.lease = Duration::ZERO;
        used_tokens_are_kept_without_a_cache,
        concurrent_requests_without_a_cache_do_not_exceed_the_rate_limit,
    }

    fn used_tokens_are_kept_without_a_cache(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let old = limited(&ada, 10, 10 * HOUR);
        use_key(&server, &old, 4);
        let new = rotate(&ada, &old, json!(600)).json();
        use_key(&server, &new, 3);
        change(&ada, &new, &json!({"name": "n"}));
        assert_eq!(remaining(&verifier, &old), 3);
        change(&ada, &old, &json!({"rate_limit": {"limit": 12}}));
        change(
            &ada,
            &new,
            &json!({"rate_limit": {"window_seconds": 12 * HOUR}}),
        );
        assert_eq!(exhaust(&server, &new).0, 5);
        server.advance(Duration::from_secs(2 * HOUR));
        assert_eq!(exhaust(&server, &new).0, 2);
        server.clock.set_back(Duration::from_secs(2 * HOUR));
        let (uses, wait) = exhaust(&server, &new);
        assert_eq!(uses, 0);
        assert_soon_before(wait, HOUR);
    }

    fn concurrent_requests_without_a_cache_do_not_exceed_the_rate_limit(server: TestServer) {
        let ada = server.user("ada@example.com");
        let key = limited(&ada, 50, DAY);
        // No more concurrent requests than the wait queue of the database holds.
        let replies = (0..5)
            .flat_map(|_| concurrent_requests(&server, &key, 20))
            .collect();
        assert_accepted(replies, 50, "rate_limited");
    }
}
