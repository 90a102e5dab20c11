//! Revocations and other changes of a key: they hold on every instance as soon as the request has its response.

use std::{thread, time::Duration};

use super::{
    changes::{Change, OTHERS, REVOKED, Rounds},
    fleet::Fleet,
    load::Targets,
    repetitions::repetitions,
};

const WORKERS: usize = 4;
/// Returns the number of revocations per worker.
fn rounds() -> usize {
    repetitions(100, 1_000)
}

/// Returns the number of rounds of each other change: a multiple of the nine pairs of instances.
fn rounds_of_others() -> usize {
    repetitions(18, 90)
}

/// Runs each change the given number of times in a worker of its own, while all keys are used at all instances.
fn change_under_load(fleet: &Fleet, work: &[(&Change, usize)]) {
    let admin = fleet.admin();
    let targets = Targets::new(work.len());
    let load = targets.load(&fleet.bases(), Duration::ZERO);
    thread::scope(|scope| {
        for (slot, &(change, rounds)) in work.iter().enumerate() {
            let worker = Rounds {
                fleet,
                admin: &admin,
                targets: &targets,
                slot,
            };
            scope.spawn(move || worker.run(change, rounds));
        }
    });
    drop(load);
    targets.assert_no_violation();
}

#[test]
fn revoked_key_is_rejected_by_every_instance_once_delete_has_responded() {
    if let Some(fleet) = Fleet::start() {
        change_under_load(&fleet, &[(&REVOKED, rounds()); WORKERS]);
    }
}

#[test]
fn changed_key_has_its_new_settings_on_every_instance_once_the_change_has_responded() {
    if let Some(fleet) = Fleet::start() {
        change_under_load(&fleet, &OTHERS.each_ref().map(|c| (c, rounds_of_others())));
    }
}

#[test]
fn change_is_applied_by_every_instance_when_one_has_no_cache() {
    if let Some(fleet) = Fleet::start_with([&[("CACHE_LEASE_SECONDS", "0")], &[], &[]]) {
        let mut work = vec![(&REVOKED, 45)];
        work.extend(OTHERS.iter().map(|change| (change, 9)));
        change_under_load(&fleet, &work);
    }
}
