//! An instance whose connections to the database hang without closing accepts no key that was revoked
//! meanwhile.

use std::{sync::Arc, time::Duration};

use super::{
    fleet::{Fleet, ask_all, assert_within_a_lease, await_that, text_of},
    load::{Target, Targets},
    support::proxy::Mode,
    wire::{Answer, Wire},
};

#[test]
fn a_key_revoked_while_an_instances_database_hangs_is_not_accepted_by_it() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (good, _) = fleet.known_key();
    let targets = Targets::new(1);
    let load = targets.load(&fleet.bases(), Duration::from_millis(2));
    for hung in [0, 2] {
        let (key, _) = fleet.known_key();
        // It cannot know more than that it does not know.
        let refused = |answer: &Answer| matches!(answer.status, 401 | 503);
        let target = Target::new(text_of(&key), |answer| answer.status == 200, refused);
        let target = Arc::new(target);
        targets.set(0, &target);
        let instance = &fleet.instances[hung];
        instance.proxy.set(Mode::Stuck);
        let took = fleet.revoke(hung + 1, &key);
        target.promise_refused();
        assert_within_a_lease(took);

        // Some are answered while it hangs, some when it does not any more.
        let mut wires: Vec<_> = (0..4).map(|_| Wire::to(&instance.program.base)).collect();
        for answer in ask_all(&mut wires, &target.key) {
            let answer = answer.expect("an answer");
            assert!(refused(&answer), "{answer:?}");
        }
        for wire in &mut wires {
            wire.send(&target.key);
        }
        instance.proxy.set(Mode::Open);
        for wire in &mut wires {
            let answer = wire.receive().expect("an answer");
            assert!(refused(&answer), "{answer:?}");
        }

        let recovers = "an instance whose database hung recovers";
        await_that(recovers, Duration::from_secs(20), || {
            let answer = wires[0].ask(text_of(&good));
            answer.is_some_and(|answer| answer.status == 200)
        });
        fleet.assert_refused_everywhere(&key);
    }
    drop(load);
    targets.assert_no_violation();
}
