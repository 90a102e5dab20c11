//! Rate limits: they hold for all instances together if they share Redis, otherwise per instance.

use std::{slice::from_ref, thread, time::Duration};

use serde_json::{Value, json};

use super::{
    callers::{LIMIT, admitted, spend_rest},
    fleet::{Fleet, full_key, start},
    redis_log::{assert_undisturbed, same},
    support::{
        Client, path_of,
        redis::{self, Redis},
    },
    traffic::{PerSecond, Traffic, count_admitted},
};

const ERROR_CODE: &str = "rate_limited";

/// Creates a key with a rate limit per day, so that practically no token is refilled during a test.
fn key_with(client: &Client, limit: usize) -> Value {
    let rate_limit = json!({"limit": limit, "window_seconds": 24 * 3600});
    client.create_key_with(&json!({"rate_limit": rate_limit}))
}

fn fleet() -> Option<(Redis, Fleet)> {
    let redis = redis::empty()?;
    let fleet = Fleet::with_redis(&redis.url)?;
    Some((redis, fleet))
}

/// Returns how many of 200 requests are allowed by all instances together.
#[track_caller]
fn all_admitted(fleet: &Fleet, keys: &[&Value]) -> usize {
    let keys: Vec<_> = keys.iter().map(|key| full_key(key)).collect();
    admitted(&fleet.bases(), &keys, ERROR_CODE).iter().sum()
}

#[test]
fn concurrent_callers_of_three_instances_are_allowed_exactly_the_rate_limit() {
    let Some((_redis, fleet)) = fleet() else {
        return;
    };
    for round in 0..5 {
        let ada = fleet.at(round, &fleet.ada);
        assert_undisturbed(&fleet.instances, || {
            let key = key_with(&ada, LIMIT);
            let admitted = [(); 2].map(|()| all_admitted(&fleet, &[&key]));
            same(admitted, [LIMIT, 0])
        });
    }
}

#[test]
fn rate_limit_of_one_allows_one_of_many_concurrent_callers() {
    let Some((_redis, fleet)) = fleet() else {
        return;
    };
    for round in 0..10 {
        let ada = fleet.at(round, &fleet.ada);
        assert_undisturbed(&fleet.instances, || {
            let key = key_with(&ada, 1);
            same(all_admitted(&fleet, &[&key]), 1)
        });
    }
}

#[test]
fn rotated_key_and_its_successors_share_one_rate_limit_on_all_instances() {
    let Some((_redis, fleet)) = fleet() else {
        return;
    };
    let ada = fleet.at(0, &fleet.ada);
    let rotate = |key: &Value| {
        let grace = json!({"grace_period_seconds": 3600});
        let reply = ada.post_json(&format!("{}/rotate", path_of(key)), &grace);
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()
    };
    assert_undisturbed(&fleet.instances, || {
        let old = key_with(&ada, LIMIT);
        let new = rotate(&old);
        let first = all_admitted(&fleet, &[&old, &new]);
        // Another rotation, or a change of another setting, refills no token either.
        let newest = rotate(&new);
        let renamed = ada.patch_json(&path_of(&newest), &json!({"name": "newest"}));
        assert_eq!(renamed.status, 200, "{renamed:?}");
        same([first, all_admitted(&fleet, &[&new, &newest])], [LIMIT, 0])
    });
}

#[test]
fn rate_limit_is_counted_per_instance_without_redis() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let key = key_with(&fleet.at(0, &fleet.ada), LIMIT);
    for rest in [LIMIT, 0] {
        let admitted = admitted(&fleet.bases(), &[full_key(&key)], ERROR_CODE);
        assert_eq!(admitted, [rest; 3]);
    }
}

#[test]
fn restart_of_a_single_instance_refills_no_rate_limit() {
    let Some(redis) = redis::empty() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let start = || start(folder.path(), &[("REDIS_URL", &redis.url)]);
    let mut program = start();
    let ada = program.client().sign_up("ada@example.com");
    let [whole, part] = [(); 2].map(|()| key_with(&ada, LIMIT));
    let all = admitted(from_ref(&program.base), &[full_key(&whole)], ERROR_CODE);
    assert_eq!(all, [LIMIT]);
    let mut used = 0;
    for killed in [false, true] {
        let caller = program.client().with_key(full_key(&part));
        for _ in 0..10 {
            assert_eq!(caller.get("/protected").status, 200);
        }
        used += 10;
        if killed {
            drop(program);
        } else {
            program.stop();
        }
        program = start();
        let again = spend_rest(from_ref(&program.base), full_key(&whole), ERROR_CODE);
        assert_eq!(again, 0);
    }
    let rest = spend_rest(from_ref(&program.base), full_key(&part), ERROR_CODE);
    eprintln!("{used} of {LIMIT} used before the restarts, {rest} after");
    assert!((1..=LIMIT - used).contains(&rest), "{rest}");
}

#[test]
fn busy_key_is_allowed_as_often_as_its_rate_limit_permits() {
    let Some((_redis, fleet)) = fleet() else {
        return;
    };
    let limit = PerSecond(200);
    let ada = fleet.at(0, &fleet.ada);
    assert_undisturbed(&fleet.instances, || {
        let key = ada.create_key_with(&limit.settings());
        // The pause is as long as the refill of the whole bucket takes.
        let seen = [1, 0].map(|pause| {
            let traffic = Traffic::on(&fleet.bases(), &[full_key(&key)], 4);
            thread::sleep(Duration::from_secs(3));
            let seen = traffic.stop();
            thread::sleep(Duration::from_secs(pause));
            seen
        });
        let seen = seen.concat();
        assert!(seen.iter().all(|s| matches!(s.status, Some(200 | 429))));
        let first = seen.iter().map(|seen| seen.sent).min().unwrap();
        let last = seen.iter().map(|seen| seen.answered).max().unwrap();
        let most = limit.allowed(last.duration_since(first));
        let (admitted, excess) = (count_admitted(&seen) as f64, limit.excess(&seen));
        let total = seen.len();
        eprintln!(
            "{admitted} of {total} requests allowed, of at most {most:.0}; worst interval {excess:+.1}"
        );
        // The service measures in milliseconds: an interval may look one millisecond shorter to a client.
        let right = excess <= 1.0 && admitted >= 0.8 * most;
        right
            .then_some(())
            .ok_or(format!("{admitted} of {most}, by {excess} too many"))
    });
}
