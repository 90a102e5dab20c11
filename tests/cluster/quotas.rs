//! All of a quota can be spent and never more of it, at however many instances.

use std::{
    slice::from_ref,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    callers::{LIMIT, admitted, spend_rest},
    fleet::{Fleet, start, text_of},
    support::{Client, path_of, postgres},
    traffic::{Seen, Traffic, count_admitted},
};

pub const REFUSED: &str = "quota_exceeded";

/// A key with a quota for good, so that no test has to fear midnight.
pub fn key_with(client: &Client, limit: usize) -> Value {
    client.create_key_with(&json!({"quota": {"limit": limit, "period": "total"}}))
}

/// Uses up some quotas at these servers.
#[track_caller]
fn assert_exact(bases: &[String], owner: &Client) {
    for limit in [LIMIT, 1, LIMIT, 7] {
        let key = key_with(owner, limit);
        for rest in [limit, 0] {
            let admitted = admitted(bases, &[text_of(&key)], REFUSED);
            assert_eq!(admitted.iter().sum::<usize>(), rest, "{admitted:?}");
        }
    }
}

#[test]
fn of_many_callers_at_three_instances_as_many_as_the_quota_are_admitted() {
    if let Some(fleet) = Fleet::start() {
        assert_exact(&fleet.bases(), &fleet.at(0, &fleet.ada));
    }
}

#[test]
fn of_many_callers_at_one_instance_as_many_as_the_quota_are_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let database = postgres::fresh_database();
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let on_postgres = database.as_ref().map(|database| {
        let url = ("DATABASE_URL", database.url.as_str());
        vec![secret, url]
    });
    for settings in on_postgres.into_iter().chain([vec![]]) {
        let program = start(folder.path(), &settings);
        let ada = program.client().sign_up("ada@example.com");
        assert_exact(from_ref(&program.base), &ada);
    }
}

#[test]
fn a_key_and_the_one_it_was_rotated_to_share_one_quota_everywhere() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let ada = fleet.at(0, &fleet.ada);
    let old = key_with(&ada, LIMIT);
    let grace = json!({"grace_period_seconds": 3600});
    let reply = ada.post_json(&format!("{}/rotate", path_of(&old)), &grace);
    assert_eq!(reply.status, 201, "{reply:?}");
    let new = reply.json();
    let admitted = admitted(&fleet.bases(), &[&old, &new].map(text_of), REFUSED);
    assert_eq!(admitted.iter().sum::<usize>(), LIMIT, "{admitted:?}");
}

/// Lowers a quota of 1000 to this once so many were admitted. What is sent after that was answered gets
/// what is left of the new quota, if anything is.
fn assert_lowered_under_load(fleet: &Fleet, limit: usize, after: usize) {
    let key = key_with(&fleet.at(0, &fleet.ada), 1000);
    let traffic = Traffic::on(&fleet.bases(), &[text_of(&key)], 4);
    traffic.await_seen("so many are admitted", after, Seen::is_admitted);
    let lower = json!({"quota": {"limit": limit}});
    let ada = fleet.at(1, &fleet.ada);
    let reply = ada.patch_json(&path_of(&key), &lower);
    let lowered = Instant::now();
    assert_eq!(reply.status, 200, "{reply:?}");
    thread::sleep(Duration::from_millis(500));
    let seen = traffic.stop();
    assert!(seen.iter().all(|s| matches!(s.status, Some(200 | 429))));
    let earlier = count_admitted(seen.iter().filter(|seen| seen.sent <= lowered));
    let later = count_admitted(&seen) - earlier;
    let rest = spend_rest(&fleet.bases(), text_of(&key), REFUSED);
    eprintln!(
        "lowered to {limit}: {earlier} before that was answered, then {later}, {rest} at last"
    );
    assert_eq!(earlier + later + rest, earlier.max(limit));
}

#[test]
fn lowered_under_load_it_is_not_overspent_once_that_is_answered() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    for _ in 0..5 {
        assert_lowered_under_load(&fleet, 400, 50);
        assert_lowered_under_load(&fleet, 50, 100);
    }
}
