//! Quotas: exactly the quota can be spent, at any number of instances.

use std::{
    slice::from_ref,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    callers::{LIMIT, admitted, spend_rest},
    fleet::{Fleet, full_key, start},
    support::{Client, path_of, postgres},
    traffic::{Seen, Traffic, count_admitted},
};

pub const ERROR_CODE: &str = "quota_exceeded";

/// Creates a key with a quota for its whole lifetime, so that no period ends during a test.
pub fn key_with(client: &Client, limit: usize) -> Value {
    client.create_key_with(&json!({"quota": {"limit": limit, "period": "total"}}))
}

/// Uses up several quotas at these servers, and asserts that exactly the quota is allowed.
#[track_caller]
fn assert_exact(bases: &[String], owner: &Client) {
    for limit in [LIMIT, 1, LIMIT, 7] {
        let key = key_with(owner, limit);
        for rest in [limit, 0] {
            let admitted = admitted(bases, &[full_key(&key)], ERROR_CODE);
            assert_eq!(admitted.iter().sum::<usize>(), rest, "{admitted:?}");
        }
    }
}

#[test]
fn concurrent_callers_of_three_instances_are_allowed_exactly_the_quota() {
    if let Some(fleet) = Fleet::start() {
        assert_exact(&fleet.bases(), &fleet.at(0, &fleet.ada));
    }
}

#[test]
fn concurrent_callers_of_one_instance_are_allowed_exactly_the_quota() {
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
fn rotated_key_and_its_successor_share_one_quota_on_all_instances() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let ada = fleet.at(0, &fleet.ada);
    let old = key_with(&ada, LIMIT);
    let grace = json!({"grace_period_seconds": 3600});
    let reply = ada.post_json(&format!("{}/rotate", path_of(&old)), &grace);
    assert_eq!(reply.status, 201, "{reply:?}");
    let new = reply.json();
    let admitted = admitted(&fleet.bases(), &[&old, &new].map(full_key), ERROR_CODE);
    assert_eq!(admitted.iter().sum::<usize>(), LIMIT, "{admitted:?}");
}

/// Lowers a quota of 1000 to `limit` once `after` requests were allowed. Requests that are sent after the response to
/// the change get the rest of the new quota, if there is any.
fn assert_lowered_under_load(fleet: &Fleet, limit: usize, after: usize) {
    let key = key_with(&fleet.at(0, &fleet.ada), 1000);
    let traffic = Traffic::on(&fleet.bases(), &[full_key(&key)], 4);
    traffic.await_seen("enough requests are allowed", after, Seen::is_admitted);
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
    let rest = spend_rest(&fleet.bases(), full_key(&key), ERROR_CODE);
    eprintln!("lowered to {limit}: {earlier} before the response, then {later}, {rest} at last");
    assert_eq!(earlier + later + rest, earlier.max(limit));
}

#[test]
fn quota_lowered_under_load_is_not_exceeded_after_the_response() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    for _ in 0..5 {
        assert_lowered_under_load(&fleet, 400, 50);
        assert_lowered_under_load(&fleet, 50, 100);
    }
}
