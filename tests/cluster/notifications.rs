//! Notifications make a change quick; without them it holds just as well.

use std::{sync::Arc, time::Duration};

use super::{
    fleet::{Fleet, assert_within_a_lease},
    load::Targets,
    support::proxy::Mode,
};

#[test]
fn a_key_is_revoked_everywhere_though_every_notification_is_lost() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let targets = Targets::new(1);
    let load = targets.load(&fleet.bases(), Duration::from_millis(2));
    // Those who did not make the change do not hear of it; then nobody does; then one does not.
    for deaf in [&[1, 2][..], &[0, 1, 2], &[0], &[]] {
        for (number, instance) in fleet.instances.iter().enumerate() {
            let mode = if deaf.contains(&number) {
                Mode::Deaf
            } else {
                Mode::Open
            };
            instance.proxy.set(mode);
        }
        for _ in 0..3 {
            let (key, target) = fleet.known_key();
            let target = Arc::new(target);
            targets.set(0, &target);
            let took = fleet.revoke(0, &key);
            target.promise_refused();
            fleet.assert_refused_everywhere(&key);
            assert_within_a_lease(took);
        }
    }
    drop(load);
    targets.assert_no_violation();
}
