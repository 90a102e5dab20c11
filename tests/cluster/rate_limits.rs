//! A rate limit holds for all instances together where they share a Redis, and else for each.

use std::{slice::from_ref, thread, time::Duration};

use serde_json::{Value, json};

use super::{
    callers::{LIMIT, admitted, spend_rest},
    fleet::{Fleet, start, text_of},
    redis_said::{assert_undisturbed, same},
    support::{
        Client, path_of,
        redis::{self, Redis},
    },
    traffic::{PerSecond, Traffic, count_admitted},
};

const REFUSED: &str = "rate_limited";

/// A key with so much for a day, of which nothing comes back while a test runs.
fn key_with(client: &Client, limit: usize) -> Value {
    let rate_limit = json!({"limit": limit, "window_seconds": 24 * 3600});
    client.create_key_with(&json!({"rate_limit": rate_limit}))
}

fn fleet() -> Option<(Redis, Fleet)> {
    let redis = redis::empty()?;
    let fleet = Fleet::with_redis(&redis.url)?;
    Some((redis, fleet))
}

/// How many of 200 are admitted by all instances.
#[track_caller]
fn all_admitted(fleet: &Fleet, keys: &[&Value]) -> usize {
    let keys: Vec<_> = keys.iter().map(|key| text_of(key)).collect();
    admitted(&fleet.bases(), &keys, REFUSED).iter().sum()
}

#[test]
fn of_many_callers_at_three_instances_as_many_as_the_limit_are_admitted() {
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
fn of_many_callers_at_three_instances_one_is_admitted_by_a_limit_of_one() {
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
fn a_key_and_those_it_was_rotated_to_share_one_limit_everywhere() {
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
        // Nor does another rotation, or a change of something else, give anything back.
        let newest = rotate(&new);
        let renamed = ada.patch_json(&path_of(&newest), &json!({"name": "newest"}));
        assert_eq!(renamed.status, 200, "{renamed:?}");
        same([first, all_admitted(&fleet, &[&new, &newest])], [LIMIT, 0])
    });
}

#[test]
fn without_redis_each_instance_counts_for_itself() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let key = key_with(&fleet.at(0, &fleet.ada), LIMIT);
    for rest in [LIMIT, 0] {
        let admitted = admitted(&fleet.bases(), &[text_of(&key)], REFUSED);
        assert_eq!(admitted, [rest; 3]);
    }
}

#[test]
fn an_instance_alone_gets_nothing_back_by_starting_again() {
    let Some(redis) = redis::empty() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let start = || start(folder.path(), &[("REDIS_URL", &redis.url)]);
    let mut program = start();
    let ada = program.client().sign_up("ada@example.com");
    let [whole, part] = [(); 2].map(|()| key_with(&ada, LIMIT));
    let all = admitted(from_ref(&program.base), &[text_of(&whole)], REFUSED);
    assert_eq!(all, [LIMIT]);
    let mut used = 0;
    for killed in [false, true] {
        let caller = program.client().with_key(text_of(&part));
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
        let again = spend_rest(from_ref(&program.base), text_of(&whole), REFUSED);
        assert_eq!(again, 0);
    }
    let rest = spend_rest(from_ref(&program.base), text_of(&part), REFUSED);
    eprintln!("{used} of {LIMIT} used before it started again, {rest} after");
    assert!((1..=LIMIT - used).contains(&rest), "{rest}");
}

#[test]
fn a_key_in_much_use_is_admitted_as_often_as_its_limit_lets_it_and_no_more() {
    let Some((_redis, fleet)) = fleet() else {
        return;
    };
    let limit = PerSecond(200);
    let ada = fleet.at(0, &fleet.ada);
    assert_undisturbed(&fleet.instances, || {
        let key = ada.create_key_with(&limit.choices());
        // The pause is as long as the whole burst takes to come back.
        let seen = [1, 0].map(|pause| {
            let traffic = Traffic::on(&fleet.bases(), &[text_of(&key)], 4);
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
        let asked = seen.len();
        eprintln!(
            "{admitted} of {asked} admitted, of {most:.0} allowed; worst stretch {excess:+.1}"
        );
        // It counts in milliseconds: a client may see one less than there were.
        let right = excess <= 1.0 && admitted >= 0.8 * most;
        right
            .then_some(())
            .ok_or(format!("{admitted} of {most}, by {excess} too many"))
    });
}
