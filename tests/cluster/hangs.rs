//! Hanging database connections: an instance whose connections hang without closing accepts no key that was revoked
//! meanwhile.

use std::{sync::Arc, time::Duration};

use super::{
    fleet::{Fleet, assert_within_a_lease, await_that, full_key, use_key_on_all},
    load::{Target, Targets},
    support::proxy::Mode,
    wire::{Response, Wire},
};

#[test]
fn revoked_key_is_rejected_by_an_instance_whose_database_connections_hang() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (good, _) = fleet.cached_key();
    let targets = Targets::new(1);
    let load = targets.load(&fleet.bases(), Duration::from_millis(2));
    for hung in [0, 2] {
        let (key, _) = fleet.cached_key();
        // The instance cannot know about the revocation, but must not use its cache either.
        let rejected = |response: &Response| matches!(response.status, 401 | 503);
        let target = Target::new(full_key(&key), |response| response.status == 200, rejected);
        let target = Arc::new(target);
        targets.set(0, &target);
        let instance = &fleet.instances[hung];
        instance.proxy.set(Mode::Stuck);
        let took = fleet.revoke(hung + 1, &key);
        target.promise_rejected();
        assert_within_a_lease(took);

        // Some requests get their response while the connections hang, some after that.
        let mut wires: Vec<_> = (0..4).map(|_| Wire::to(&instance.program.base)).collect();
        for response in use_key_on_all(&mut wires, &target.key) {
            let response = response.expect("a response");
            assert!(rejected(&response), "{response:?}");
        }
        for wire in &mut wires {
            wire.send(&target.key);
        }
        instance.proxy.set(Mode::Open);
        for wire in &mut wires {
            let response = wire.receive().expect("a response");
            assert!(rejected(&response), "{response:?}");
        }

        let condition = "an instance whose database hung recovers";
        await_that(condition, Duration::from_secs(20), || {
            let response = wires[0].use_key(full_key(&good));
            response.is_some_and(|response| response.status == 200)
        });
        fleet.assert_rejected_everywhere(&key);
    }
    drop(load);
    targets.assert_no_violation();
}
