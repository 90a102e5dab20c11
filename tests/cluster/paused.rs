//! Paused instances (SIGSTOP, a suspended machine): an instance that resumes does not use its old cache.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use super::{
    fleet::{Fleet, assert_within_a_lease, full_key},
    load::Targets,
    repetitions::repetitions,
    support::{Program, path_of},
    wire::Wire,
};

#[test]
fn key_revoked_during_a_pause_is_rejected_by_the_resumed_instance() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let targets = Targets::new(1);
    let load = targets.load(&fleet.bases(), Duration::from_millis(2));
    for round in 0..repetitions(3, 12) {
        let (key, target) = fleet.cached_key();
        let target = Arc::new(target);
        targets.set(0, &target);
        let paused = &fleet.instances[round % 3].program;
        // One connection that the instance has accepted, and more that it has not.
        let mut waiting: Vec<_> = (0..6).map(|_| Wire::to(&paused.base)).collect();
        assert_eq!(waiting[0].use_key(&target.key).unwrap().status, 200);

        paused.signal("STOP");
        let took = fleet.revoke(round + 1, &key);
        target.promise_rejected();
        for wire in &mut waiting {
            wire.send(&target.key);
        }
        paused.signal("CONT");
        assert_within_a_lease(took);
        for (number, wire) in waiting.iter_mut().enumerate() {
            match wire.receive() {
                Some(response) => assert_eq!(response.status, 401, "{response:?}"),
                // The instance may have closed the accepted connection as idle for too long.
                None => assert_eq!(number, 0),
            }
        }
        fleet.assert_rejected_everywhere(&key);
    }
    drop(load);
    targets.assert_no_violation();
}

/// A paused instance keeps the locks of its open transactions.
#[test]
fn instance_paused_during_transactions_delays_changes_by_at_most_one_lease() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let paused = &fleet.instances[2].program;
        // Takes effect when an assertion fails too; otherwise the scope would wait forever.
        let _guard = EndChanges(&ended, paused);
        let ended = &ended;
        for _ in 0..4 {
            let client = fleet.at(2, &fleet.ada);
            let key = client.create_key();
            scope.spawn(move || {
                let mut changes = [false, true].into_iter().cycle();
                while !ended.load(Ordering::SeqCst) {
                    let change = json!({"enabled": changes.next()});
                    client.patch_json(&path_of(&key), &change);
                }
            });
        }
        // Repeated, because a transaction is open only part of the time.
        for _ in 0..repetitions(6, 24) {
            let (key, _) = fleet.cached_key();
            paused.signal("STOP");
            let took = fleet.revoke(0, &key);
            let mut wire = Wire::to(&paused.base);
            wire.send(full_key(&key));
            paused.signal("CONT");
            assert_within_a_lease(took);
            assert_eq!(wire.receive().unwrap().status, 401);
            fleet.assert_rejected_everywhere(&key);
        }
    });
}

/// Ends the changes when it is dropped, including those that wait for the paused instance.
struct EndChanges<'a>(&'a AtomicBool, &'a Program);

impl Drop for EndChanges<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        self.1.signal("CONT");
    }
}
