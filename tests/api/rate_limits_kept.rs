//! What was used of a rate limit stays used, whatever is changed of the key or done to the clock.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    key_rotation::rotate,
    key_settings::time,
    limit_settings::{change, rate_limit},
    on_both_databases,
    rate_limits::{
        DAY, HOUR, assert_let_in, assert_soon_before, at_once, limited, use_key, use_up,
    },
    support::{Client, TestServer},
    verify::{ask, verifier},
};

/// How often a key is let in until its rate limit refuses it, and for how long it is refused then.
#[track_caller]
fn drain(server: &TestServer, key: &Value) -> (u64, u64) {
    use_up(&server.caller(key), "rate_limited")
}

/// What is left of a key's rate limit, by a look that takes nothing.
#[track_caller]
fn remaining(verifier: &Client, key: &Value) -> u64 {
    let look = json!({"api_key": key["api_key"], "cost": 0});
    let limit = ask(verifier, &look)["rate_limit"].clone();
    limit["remaining"].as_u64().expect("a limit")
}

mod remembered {
    use super::*;

    on_both_databases! {
        a_key_and_its_successors_use_one_limit,
        a_change_of_anything_else_gives_nothing_back,
        a_change_of_the_limit_keeps_what_was_used,
        a_change_of_the_window_keeps_what_was_used,
        a_clock_that_is_set_back_neither_refills_nor_blocks,
    }

    fn a_key_and_its_successors_use_one_limit(server: TestServer) {
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
        assert_eq!(drain(&server, &newest).0, 2);
        for key in [&old, &newest] {
            assert_eq!(drain(&server, key).0, 0);
        }
        // What comes back, comes back once for all of them.
        server.advance(Duration::from_secs(DAY / 10 * 2));
        assert_eq!(drain(&server, &newest).0, 2);
        server
            .caller(&old)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }

    fn a_change_of_anything_else_gives_nothing_back(server: TestServer) {
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
        assert_eq!(drain(&server, &key).0, 6);
    }

    fn a_change_of_the_limit_keeps_what_was_used(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, DAY);
        let set = |limit: u64| drop(change(&ada, &key, &json!({"rate_limit": {"limit": limit}})));
        use_key(&server, &key, 5);
        for (limit, left) in [(20, 15), (10, 5), (6, 1), (8, 3)] {
            set(limit);
            assert_eq!(remaining(&verifier, &key), left, "{limit}");
        }
        // What was used is more than the new limit: it counts as all of it, so that nobody waits
        // longer than a window.
        set(2);
        let (uses, wait) = drain(&server, &key);
        assert_eq!(uses, 0);
        assert_soon_before(wait, DAY / 2);
        server.advance(Duration::from_secs(wait));
        assert_eq!(drain(&server, &key).0, 1);
    }

    fn a_change_of_the_window_keeps_what_was_used(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let key = limited(&ada, 10, DAY);
        use_key(&server, &key, 5);
        for window in [DAY / 2, DAY, HOUR] {
            let patch = json!({"rate_limit": {"window_seconds": window}});
            change(&ada, &key, &patch);
            assert_eq!(remaining(&verifier, &key), 5, "{window}");
        }
        let (uses, wait) = drain(&server, &key);
        assert_eq!(uses, 5);
        assert_soon_before(wait, HOUR / 10);
    }

    fn a_clock_that_is_set_back_neither_refills_nor_blocks(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let (used, fresh) = (limited(&ada, 10, 10 * HOUR), limited(&ada, 10, 10 * HOUR));
        assert_eq!(drain(&server, &used).0, 10);
        use_key(&server, &fresh, 4);
        for back in [1, HOUR, 400 * DAY] {
            server.clock.set_back(Duration::from_secs(back));
            assert_eq!(remaining(&verifier, &fresh), 6, "{back}");
            let (uses, wait) = drain(&server, &used);
            assert_eq!(uses, 0, "{back}");
            assert_soon_before(wait, HOUR);
        }
        assert_eq!(drain(&server, &fresh).0, 6);
        // From here on time goes on as ever.
        server.advance(Duration::from_secs(HOUR));
        for key in [&used, &fresh] {
            assert_eq!(drain(&server, key).0, 1);
        }
    }
}

mod asked_of_the_database_each_time {
    use super::*;

    on_both_databases! {
        |config| config.cache.lease = Duration::ZERO;
        it_is_the_same_without_a_cache,
        of_many_at_once_as_many_are_let_in_without_a_cache,
    }

    fn it_is_the_same_without_a_cache(server: TestServer) {
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
        assert_eq!(drain(&server, &new).0, 5);
        server.advance(Duration::from_secs(2 * HOUR));
        assert_eq!(drain(&server, &new).0, 2);
        server.clock.set_back(Duration::from_secs(2 * HOUR));
        let (uses, wait) = drain(&server, &new);
        assert_eq!(uses, 0);
        assert_soon_before(wait, HOUR);
    }

    fn of_many_at_once_as_many_are_let_in_without_a_cache(server: TestServer) {
        let ada = server.user("ada@example.com");
        let key = limited(&ada, 50, DAY);
        // No more at once than may wait for the database.
        let replies = (0..5).flat_map(|_| at_once(&server, &key, 20)).collect();
        assert_let_in(replies, 50, "rate_limited");
    }
}
