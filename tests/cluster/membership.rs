//! Instances join, leave and crash: they delay a change by at most one lease, and soon not at all.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    fleet::{Fleet, LEASE, assert_within_a_lease, await_that},
    support::path_of,
};

/// Time within which a killed instance must be removed from the database.
const UNREGISTERED_WITHIN: Duration = Duration::from_secs(60);

fn revoke(fleet: &Fleet) -> Duration {
    let (key, _) = fleet.cached_key();
    let took = fleet.revoke(0, &key);
    fleet.assert_rejected_everywhere(&key);
    took
}

/// Asserts that after a few leases a change waits for no instance any more.
#[track_caller]
fn assert_soon_fast(fleet: &Fleet) {
    let is_fast = || revoke(fleet) < LEASE / 2;
    await_that("DELETE is fast again", 5 * LEASE, is_fast);
    assert!(revoke(fleet) < LEASE);
}

fn await_registered(fleet: &Fleet) {
    let live = fleet.instances.len();
    await_that(
        "the database lists exactly the live instances",
        UNREGISTERED_WITHIN,
        || fleet.registered() == live,
    );
}

#[test]
fn change_is_not_delayed_by_instances_that_shut_down() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    await_registered(&fleet);
    for _ in 0..2 {
        let leaving = fleet.instances.pop().unwrap();
        let left = thread::spawn(move || leaving.program.stop());
        for _ in 0..3 {
            assert_within_a_lease(revoke(&fleet));
        }
        left.join().unwrap();
        assert_soon_fast(&fleet);
        await_registered(&fleet);
    }
}

#[test]
fn killed_instance_delays_a_change_by_at_most_one_lease_and_is_unregistered() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    for _ in 0..2 {
        // Dropping an instance kills it (SIGKILL).
        drop(fleet.instances.pop());
        assert_within_a_lease(revoke(&fleet));
        assert_soon_fast(&fleet);
    }
    await_registered(&fleet);
}

#[test]
fn joining_instance_delays_no_change_and_rejects_revoked_keys_from_its_first_response() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    for _ in 0..2 {
        // Changes continue while the instance starts.
        let client = fleet.at(0, &fleet.ada);
        let changes = thread::spawn(move || {
            let change = |_| {
                let key = client.create_key();
                let started = Instant::now();
                assert_eq!(client.delete(&path_of(&key)).status, 200);
                (key, started.elapsed())
            };
            (0..30).map(change).collect::<Vec<_>>()
        });
        fleet.join(&[]);
        let (key, _) = fleet.cached_key();
        let joined = fleet.instances.len() - 1;
        assert_within_a_lease(fleet.revoke(joined, &key));
        fleet.assert_rejected_everywhere(&key);
        for (key, took) in changes.join().unwrap() {
            assert_within_a_lease(took);
            fleet.assert_rejected_everywhere(&key);
        }
        assert_soon_fast(&fleet);
        await_registered(&fleet);
    }
}
