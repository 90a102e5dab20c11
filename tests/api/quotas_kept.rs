//! What was used of a quota stays used, whatever is changed of the key, done to the clock, or becomes of
//! the service.

use std::{thread, time::Duration};

use chrono::TimeDelta;
use serde_json::json;

use crate::{
    key_rotation::rotate,
    limit_settings::change,
    on_both_databases,
    quotas::{go_to, go_to_noon, next_day, next_month, now, remaining, spend, with_quota},
    rate_limits::{DAY, use_key},
    support::{Program, TestServer, program::QUICK},
    verify::{ask, verifier},
};

mod changed {
    use super::*;

    on_both_databases! {
        |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
        a_key_and_its_successors_use_one_quota,
        a_change_of_anything_else_gives_nothing_back,
        a_larger_limit_gives_the_difference_and_a_smaller_one_takes_it,
        changes_while_the_key_is_used_neither_give_nor_lose,
        another_period_gives_nothing_of_the_first_one_back,
        a_clock_that_is_set_back_gives_nothing_back,
    }

    fn a_key_and_its_successors_use_one_quota(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        go_to_noon(&server);
        for period in ["day", "month", "total"] {
            let old = with_quota(&ada, 10, period);
            use_key(&server, &old, 4);
            let new = rotate(&ada, &old, json!(600)).json();
            assert_eq!(remaining(&verifier, &new), 6);
            use_key(&server, &new, 3);
            use_key(&server, &old, 1);
            for key in [&old, &new] {
                assert_eq!(remaining(&verifier, key), 2);
            }
            let newest = rotate(&ada, &new, json!(0)).json();
            assert_eq!(spend(&server, &newest).0, 2);
            for key in [&old, &newest] {
                assert_eq!(spend(&server, key).0, 0);
            }
        }
    }

    fn a_change_of_anything_else_gives_nothing_back(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        go_to_noon(&server);
        let key = with_quota(&ada, 10, "day");
        use_key(&server, &key, 4);
        for patch in [
            json!({"name": "n"}),
            json!({"enabled": false}),
            json!({"enabled": true}),
            json!({"rate_limit": {"limit": 1000, "window_seconds": 1}}),
            json!({"rate_limit": null}),
            json!({"quota": {}}),
            json!({"quota": {"limit": 10, "period": "day"}}),
        ] {
            change(&ada, &key, &patch);
            if patch["enabled"] != false {
                assert_eq!(remaining(&verifier, &key), 6, "{patch}");
            }
        }
        // Nor does having none for a while.
        change(&ada, &key, &json!({"quota": null}));
        use_key(&server, &key, 20);
        change(
            &ada,
            &key,
            &json!({"quota": {"limit": 10, "period": "day"}}),
        );
        let (uses, _) = spend(&server, &key);
        assert!(uses <= 6, "{uses}");
    }

    fn a_larger_limit_gives_the_difference_and_a_smaller_one_takes_it(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        go_to_noon(&server);
        for period in ["day", "month", "total"] {
            let key = with_quota(&ada, 10, period);
            let set = |limit: u64| drop(change(&ada, &key, &json!({"quota": {"limit": limit}})));
            use_key(&server, &key, 6);
            set(8);
            assert_eq!(remaining(&verifier, &key), 2);
            assert_eq!(spend(&server, &key).0, 2);
            for less in [5, 1] {
                set(less);
                assert_eq!(remaining(&verifier, &key), 0);
                assert_eq!(spend(&server, &key).0, 0);
            }
            set(12);
            assert_eq!(remaining(&verifier, &key), 4);
            assert_eq!(spend(&server, &key).0, 4);
            // From large, of which much may be in hand, to small.
            set(1_000_000);
            use_key(&server, &key, 3);
            set(20);
            assert_eq!(remaining(&verifier, &key), 5);
            assert_eq!(spend(&server, &key).0, 5);
        }
    }

    fn changes_while_the_key_is_used_neither_give_nor_lose(server: TestServer) {
        let ada = server.user("ada@example.com");
        let key = with_quota(&ada, 300, "total");
        let callers = [(); 6].map(|()| {
            let caller = server.caller(&key);
            thread::spawn(move || {
                let statuses = (0..100).map(|_| caller.get("/protected").status);
                statuses.filter(|status| *status == 200).count()
            })
        });
        for limit in [5_u64, 1000, 50, 400, 1 << 53, 300] {
            change(&ada, &key, &json!({"quota": {"limit": limit}}));
        }
        let uses: usize = callers.map(|caller| caller.join().unwrap()).iter().sum();
        change(&ada, &key, &json!({"quota": {"limit": 1000}}));
        assert_eq!(spend(&server, &key).0 + uses as u64, 1000);
    }

    fn another_period_gives_nothing_of_the_first_one_back(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        go_to_noon(&server);
        let key = with_quota(&ada, 10, "day");
        let set = |period: &str| drop(change(&ada, &key, &json!({"quota": {"period": period}})));
        use_key(&server, &key, 6);
        for other in ["month", "total"] {
            set(other);
            assert!(remaining(&verifier, &key) <= 10, "{other}");
            assert!(spend(&server, &key).0 <= 10, "{other}");
            set("day");
            assert!(remaining(&verifier, &key) <= 4, "{other}");
        }
        assert!(spend(&server, &key).0 <= 4);
        for period in ["month", "total", "day"] {
            set(period);
            assert_eq!(spend(&server, &key).0, 0, "{period}");
        }
        go_to(&server, next_day(&server));
        assert_eq!(spend(&server, &key).0, 10);
    }

    fn a_clock_that_is_set_back_gives_nothing_back(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        go_to_noon(&server);
        for period in ["day", "month"] {
            let key = with_quota(&ada, 5, period);
            assert_eq!(spend(&server, &key).0, 5);
            let next = match period {
                "day" => next_day(&server),
                _ => next_month(&server),
            };
            let (before, after) = (next - TimeDelta::minutes(5), next + TimeDelta::minutes(5));
            go_to(&server, after);
            use_key(&server, &key, 2);
            for _ in 0..3 {
                go_to(&server, before);
                assert_eq!(remaining(&verifier, &key), 0, "{period}");
                assert_eq!(spend(&server, &key).0, 0, "{period}");
                go_to(&server, after);
                assert_eq!(remaining(&verifier, &key), 3, "{period}");
            }
            go_to(&server, before);
            assert_eq!(spend(&server, &key).0, 0, "{period}");
            go_to(&server, after);
            assert_eq!(spend(&server, &key).0, 3, "{period}");
            // Of what was there before the clock was set, nothing is there twice.
            let key = with_quota(&ada, 5, period);
            use_key(&server, &key, 2);
            go_to(&server, before);
            let before = spend(&server, &key).0;
            go_to(&server, after);
            let after = spend(&server, &key).0;
            assert!(before <= 5 && after == 3, "{period}: {before} {after}");
            go_to(&server, now(&server) + TimeDelta::hours(12));
        }
        // A total knows no time.
        let key = with_quota(&ada, 5, "total");
        use_key(&server, &key, 3);
        server.clock.set_back(Duration::from_secs(400 * DAY));
        assert_eq!(remaining(&verifier, &key), 2);
        assert_eq!(spend(&server, &key), (2, DAY));
    }
}

mod stopped {
    use super::*;

    on_both_databases! {
        a_stop_in_order_loses_nothing,
        a_stop_while_a_key_is_used_loses_nothing,
    }

    fn a_stop_in_order_loses_nothing(mut server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let verifying = verifier.header("x-api-key");
        let keys = [10, 1000, 1 << 53].map(|limit| with_quota(&ada, limit, "total"));
        for key in &keys {
            use_key(&server, key, 3);
        }
        let large = json!({"api_key": keys[2]["api_key"], "cost": 1_000_000});
        assert_eq!(ask(&verifier, &large)["code"], "valid");
        let mut left = [7, 997, (1 << 53) - 1_000_003];
        server.stop();
        for _ in 0..3 {
            let mut again = TestServer::on(&server.database_url, adjust);
            let verifier = again.anonymous().with_key(&verifying);
            for (key, left) in keys.iter().zip(&mut left) {
                assert_eq!(remaining(&verifier, key), *left);
                use_key(&again, key, 2);
                *left -= 2;
                assert_eq!(remaining(&verifier, key), *left);
            }
            again.stop();
        }
        let again = TestServer::on(&server.database_url, adjust);
        let ada = again
            .anonymous()
            .log_in("ada@example.com", crate::support::PASSWORD);
        assert_eq!(spend(&again, &keys[0]).0, 1);
        assert_eq!(spend(&again, &keys[1]).0, 991);
        let successor = rotate(&ada, &keys[1], json!(0)).json();
        assert_eq!(spend(&again, &successor).0, 0);
    }

    fn a_stop_while_a_key_is_used_loses_nothing(mut server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let verifying = verifier.header("x-api-key");
        let key = with_quota(&ada, 100_000, "total");
        server.stop();
        let settings = [
            ("DATABASE_URL", server.database_url.as_str()),
            ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"),
        ];
        let mut spent = 0;
        // It is a matter of the moment.
        for _ in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let settings = [&QUICK[..], &settings].concat();
            let program = Program::start(folder.path(), &settings);
            let callers = [(); 8].map(|()| {
                let (agent, url) = (ureq::agent(), format!("{}/protected", program.base));
                let key = key["api_key"].as_str().unwrap().to_owned();
                // Until nobody answers any more.
                let is_let_in = move || agent.get(&url).header("x-api-key", &key).call().is_ok();
                thread::spawn(move || (0..).take_while(|_: &u64| is_let_in()).count())
            });
            let verifier = program.client().with_key(&verifying);
            while remaining(&verifier, &key) + 500 > 100_000 - spent {}
            program.stop();
            let uses = callers.map(|caller| u64::try_from(caller.join().unwrap()).unwrap());
            let uses: u64 = uses.iter().sum();

            let again = TestServer::on(&server.database_url, adjust);
            let verifier = again.anonymous().with_key(&verifying);
            let before = std::mem::replace(&mut spent, 100_000 - remaining(&verifier, &key));
            // Of each of them an answer may have been lost on its way.
            let expected = before + uses..=before + uses + 8;
            assert!(expected.contains(&spent), "{spent} is not {expected:?}");
        }
    }
}
