//! Used units of a quota stay used: across changes of the key, changes of the clock, and restarts.

use std::{thread, time::Duration};

use chrono::TimeDelta;
use serde_json::json;

use crate::{
    key_rotation::rotate,
    limit_settings::change,
    on_both_databases,
    quotas::{
        next_day, next_month, now, remaining, set_clock, set_clock_to_noon, spend, with_quota,
    },
    rate_limits::{DAY, use_key},
    support::{Program, TestServer, program::QUICK},
    verify::{verifier, verify_key},
};

mod changes {
    use super::*;

    on_both_databases! {
        |config| config.jwt_ttl_seconds = 400 * 24 * 3600;
        key_and_its_successors_share_one_quota,
        unrelated_changes_restore_no_used_quota,
        quota_limit_change_adjusts_the_remaining_units,
        quota_changes_during_use_neither_create_nor_lose_units,
        period_change_restores_no_used_quota,
        clock_set_back_restores_no_used_quota,
    }

    fn key_and_its_successors_share_one_quota(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        set_clock_to_noon(&server);
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

    fn unrelated_changes_restore_no_used_quota(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        set_clock_to_noon(&server);
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
        // Removing and restoring the quota restores no units either.
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

    fn quota_limit_change_adjusts_the_remaining_units(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        set_clock_to_noon(&server);
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
            // From a large limit, of which the instance may hold a large block, to a small one.
            set(1_000_000);
            use_key(&server, &key, 3);
            set(20);
            assert_eq!(remaining(&verifier, &key), 5);
            assert_eq!(spend(&server, &key).0, 5);
        }
    }

    fn quota_changes_during_use_neither_create_nor_lose_units(server: TestServer) {
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

    fn period_change_restores_no_used_quota(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        set_clock_to_noon(&server);
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
        set_clock(&server, next_day(&server));
        assert_eq!(spend(&server, &key).0, 10);
    }

    fn clock_set_back_restores_no_used_quota(server: TestServer) {
        let (verifier, ada) = verifier(&server);
        set_clock_to_noon(&server);
        for period in ["day", "month"] {
            let key = with_quota(&ada, 5, period);
            assert_eq!(spend(&server, &key).0, 5);
            let next = match period {
                "day" => next_day(&server),
                _ => next_month(&server),
            };
            let (before, after) = (next - TimeDelta::minutes(5), next + TimeDelta::minutes(5));
            set_clock(&server, after);
            use_key(&server, &key, 2);
            for _ in 0..3 {
                set_clock(&server, before);
                assert_eq!(remaining(&verifier, &key), 0, "{period}");
                assert_eq!(spend(&server, &key).0, 0, "{period}");
                set_clock(&server, after);
                assert_eq!(remaining(&verifier, &key), 3, "{period}");
            }
            set_clock(&server, before);
            assert_eq!(spend(&server, &key).0, 0, "{period}");
            set_clock(&server, after);
            assert_eq!(spend(&server, &key).0, 3, "{period}");
            // Units that remained before the clock was set back can be spent only once.
            let key = with_quota(&ada, 5, period);
            use_key(&server, &key, 2);
            set_clock(&server, before);
            let before = spend(&server, &key).0;
            set_clock(&server, after);
            let after = spend(&server, &key).0;
            assert!(before <= 5 && after == 3, "{period}: {before} {after}");
            set_clock(&server, now(&server) + TimeDelta::hours(12));
        }
        // A total quota is independent of the clock.
        let key = with_quota(&ada, 5, "total");
        use_key(&server, &key, 3);
        server.clock.set_back(Duration::from_secs(400 * DAY));
        assert_eq!(remaining(&verifier, &key), 2);
        assert_eq!(spend(&server, &key), (2, DAY));
    }
}

mod restarts {
    use super::*;

    on_both_databases! {
        graceful_shutdown_loses_no_quota,
        shutdown_during_requests_loses_no_quota,
    }

    fn graceful_shutdown_loses_no_quota(mut server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let verifying_key = verifier.header("x-api-key");
        let keys = [10, 1000, 1 << 53].map(|limit| with_quota(&ada, limit, "total"));
        for key in &keys {
            use_key(&server, key, 3);
        }
        let large = json!({"api_key": keys[2]["api_key"], "cost": 1_000_000});
        assert_eq!(verify_key(&verifier, &large)["code"], "valid");
        let mut left = [7, 997, (1 << 53) - 1_000_003];
        server.stop();
        for _ in 0..3 {
            let mut restarted = TestServer::on(&server.database_url, adjust);
            let verifier = restarted.anonymous().with_key(&verifying_key);
            for (key, left) in keys.iter().zip(&mut left) {
                assert_eq!(remaining(&verifier, key), *left);
                use_key(&restarted, key, 2);
                *left -= 2;
                assert_eq!(remaining(&verifier, key), *left);
            }
            restarted.stop();
        }
        let restarted = TestServer::on(&server.database_url, adjust);
        let ada = restarted
            .anonymous()
            .log_in("ada@example.com", crate::support::PASSWORD);
        assert_eq!(spend(&restarted, &keys[0]).0, 1);
        assert_eq!(spend(&restarted, &keys[1]).0, 991);
        let successor = rotate(&ada, &keys[1], json!(0)).json();
        assert_eq!(spend(&restarted, &successor).0, 0);
    }

    fn shutdown_during_requests_loses_no_quota(mut server: TestServer) {
        let (verifier, ada) = verifier(&server);
        let verifying_key = verifier.header("x-api-key");
        let key = with_quota(&ada, 100_000, "total");
        server.stop();
        let settings = [
            ("DATABASE_URL", server.database_url.as_str()),
            ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"),
        ];
        let mut spent = 0;
        // The race depends on timing, so it is repeated.
        for _ in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let settings = [&QUICK[..], &settings].concat();
            let program = Program::start(folder.path(), &settings);
            let callers = [(); 8].map(|()| {
                let (agent, url) = (ureq::agent(), format!("{}/protected", program.base));
                let key = key["api_key"].as_str().unwrap().to_owned();
                // Until the connection fails.
                let is_accepted = move || agent.get(&url).header("x-api-key", &key).call().is_ok();
                thread::spawn(move || (0..).take_while(|_: &u64| is_accepted()).count())
            });
            let verifier = program.client().with_key(&verifying_key);
            while remaining(&verifier, &key) + 500 > 100_000 - spent {}
            program.stop();
            let uses = callers.map(|caller| u64::try_from(caller.join().unwrap()).unwrap());
            let uses: u64 = uses.iter().sum();

            let restarted = TestServer::on(&server.database_url, adjust);
            let verifier = restarted.anonymous().with_key(&verifying_key);
            let before = std::mem::replace(&mut spent, 100_000 - remaining(&verifier, &key));
            // Each of the 8 callers may have lost one response.
            let expected = before + uses..=before + uses + 8;
            assert!(expected.contains(&spent), "{spent} is not {expected:?}");
        }
    }
}
