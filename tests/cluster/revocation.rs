//! What has been changed of a key holds on every instance as soon as the change has been answered.

use std::{thread, time::Duration};

use super::{
    changes::{Change, OTHERS, REVOKED, Rounds},
    fleet::Fleet,
    load::Targets,
    repetitions::repetitions,
};

const WORKERS: usize = 4;
/// Of DELETE, by each worker.
fn rounds() -> usize {
    repetitions(100, 1_000)
}

/// Of each other change: each pair of instances that make and change it, twice.
fn rounds_of_others() -> usize {
    repetitions(18, 90)
}

/// Each of these as often by a worker of its own, while all keys are used without pause everywhere.
fn change_under_load(fleet: &Fleet, work: &[(&Change, usize)]) {
    let admin = fleet.admin();
    let targets = Targets::new(work.len());
    let load = targets.load(&fleet.bases(), Duration::ZERO);
    thread::scope(|scope| {
        for (place, &(change, rounds)) in work.iter().enumerate() {
            let worker = Rounds {
                fleet,
                admin: &admin,
                targets: &targets,
                place,
            };
            scope.spawn(move || worker.run(change, rounds));
        }
    });
    drop(load);
    targets.assert_no_violation();
}

#[test]
fn after_delete_has_answered_no_instance_accepts_the_key() {
    if let Some(fleet) = Fleet::start() {
        change_under_load(&fleet, &[(&REVOKED, rounds()); WORKERS]);
    }
}

#[test]
fn after_any_change_has_answered_every_instance_goes_by_it() {
    if let Some(fleet) = Fleet::start() {
        change_under_load(&fleet, &OTHERS.each_ref().map(|c| (c, rounds_of_others())));
    }
}

#[test]
fn an_instance_without_a_cache_beside_those_with_one_keeps_the_promise_too() {
    if let Some(fleet) = Fleet::start_with([&[("CACHE_LEASE_SECONDS", "0")], &[], &[]]) {
        let mut work = vec![(&REVOKED, 45)];
        work.extend(OTHERS.iter().map(|change| (change, 9)));
        change_under_load(&fleet, &work);
    }
}
