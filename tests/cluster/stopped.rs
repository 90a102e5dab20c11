//! An instance that is stopped and goes on later (SIGSTOP, a suspended machine) believes nothing that
//! it knew before.

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
    fleet::{Fleet, assert_within_a_lease, text_of},
    load::Targets,
    repetitions::repetitions,
    support::{Program, path_of},
    wire::Wire,
};

#[test]
fn a_key_revoked_while_an_instance_is_stopped_is_refused_by_it_when_it_goes_on() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let targets = Targets::new(1);
    let load = targets.load(&fleet.bases(), Duration::from_millis(2));
    for round in 0..repetitions(3, 12) {
        let (key, target) = fleet.known_key();
        let target = Arc::new(target);
        targets.set(0, &target);
        let stopped = &fleet.instances[round % 3].program;
        // One connection that it has accepted, and more that it has not.
        let mut waiting: Vec<_> = (0..6).map(|_| Wire::to(&stopped.base)).collect();
        assert_eq!(waiting[0].ask(&target.key).unwrap().status, 200);

        stopped.signal("STOP");
        let took = fleet.revoke(round + 1, &key);
        target.promise_refused();
        for wire in &mut waiting {
            wire.send(&target.key);
        }
        stopped.signal("CONT");
        assert_within_a_lease(took);
        for (number, wire) in waiting.iter_mut().enumerate() {
            match wire.receive() {
                Some(answer) => assert_eq!(answer.status, 401, "{answer:?}"),
                // It may have found that the connection had been idle for too long.
                None => assert_eq!(number, 0),
            }
        }
        fleet.assert_refused_everywhere(&key);
    }
    drop(load);
    targets.assert_no_violation();
}

/// It holds whatever locks its open transactions have.
#[test]
fn an_instance_stopped_amid_changes_does_not_hold_up_the_others_changes_for_long() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopped = &fleet.instances[2].program;
        // Also when an assertion fails, or the scope would wait for ever.
        let _over = Over(&over, stopped);
        let over = &over;
        for _ in 0..4 {
            let client = fleet.at(2, &fleet.ada);
            let key = client.create_key();
            scope.spawn(move || {
                let mut changes = [false, true].into_iter().cycle();
                while !over.load(Ordering::SeqCst) {
                    let change = json!({"enabled": changes.next()});
                    client.patch_json(&path_of(&key), &change);
                }
            });
        }
        // More often, since a transaction is open only some of the time.
        for _ in 0..repetitions(6, 24) {
            let (key, _) = fleet.known_key();
            stopped.signal("STOP");
            let took = fleet.revoke(0, &key);
            let mut wire = Wire::to(&stopped.base);
            wire.send(text_of(&key));
            stopped.signal("CONT");
            assert_within_a_lease(took);
            assert_eq!(wire.receive().unwrap().status, 401);
            fleet.assert_refused_everywhere(&key);
        }
    });
}

/// Ends the changes when it is dropped, also those that wait for the stopped instance.
struct Over<'a>(&'a AtomicBool, &'a Program);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        self.1.signal("CONT");
    }
}
