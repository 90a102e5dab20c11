//! Instances come and go: none holds up a change for longer than a lease, and soon not at all.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    fleet::{Fleet, LEASE, assert_within_a_lease, await_that},
    support::path_of,
};

/// How long a killed instance may be remembered.
const FORGOTTEN: Duration = Duration::from_secs(60);

fn revoke(fleet: &Fleet) -> Duration {
    let (key, _) = fleet.known_key();
    let took = fleet.revoke(0, &key);
    fleet.assert_refused_everywhere(&key);
    took
}

/// After a few leases nothing is waited for any more.
#[track_caller]
fn assert_soon_quick(fleet: &Fleet) {
    let quick = || revoke(fleet) < LEASE / 2;
    await_that("DELETE is quick again", 5 * LEASE, quick);
    assert!(revoke(fleet) < LEASE);
}

fn await_registered(fleet: &Fleet) {
    let live = fleet.instances.len();
    await_that("the database knows who is there", FORGOTTEN, || {
        fleet.registered() == live
    });
}

#[test]
fn instances_that_leave_in_order_hold_up_no_change() {
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
        assert_soon_quick(&fleet);
        await_registered(&fleet);
    }
}

#[test]
fn a_killed_instance_holds_up_a_change_for_a_lease_at_most_and_is_forgotten() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    for _ in 0..2 {
        // Dropping it is SIGKILL.
        drop(fleet.instances.pop());
        assert_within_a_lease(revoke(&fleet));
        assert_soon_quick(&fleet);
    }
    await_registered(&fleet);
}

#[test]
fn instances_that_join_hold_up_no_change_and_keep_the_promise_from_their_first_answer() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    for _ in 0..2 {
        // Changes go on while it starts.
        let client = fleet.at(0, &fleet.ada);
        let changes = thread::spawn(move || {
            let change = |_| {
                let key = client.create_key();
                let asked = Instant::now();
                assert_eq!(client.delete(&path_of(&key)).status, 200);
                (key, asked.elapsed())
            };
            (0..30).map(change).collect::<Vec<_>>()
        });
        fleet.join(&[]);
        let (key, _) = fleet.known_key();
        let joined = fleet.instances.len() - 1;
        assert_within_a_lease(fleet.revoke(joined, &key));
        fleet.assert_refused_everywhere(&key);
        for (key, took) in changes.join().unwrap() {
            assert_within_a_lease(took);
            fleet.assert_refused_everywhere(&key);
        }
        assert_soon_quick(&fleet);
        await_registered(&fleet);
    }
}
