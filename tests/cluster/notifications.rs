//! Notifications of PostgreSQL make a change fast. Revocations hold without them too.

use std::{sync::Arc, time::Duration};

use super::{
    fleet::{Fleet, assert_within_a_lease},
    load::Targets,
    support::proxy::Mode,
};

#[test]
fn revoked_key_is_rejected_by_every_instance_when_notifications_are_lost() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let targets = Targets::new(1);
    let load = targets.load(&fleet.bases(), Duration::from_millis(2));
    // Notifications are dropped for the other instances, then for all, then for one, then for none.
    for without_notifications in [&[1, 2][..], &[0, 1, 2], &[0], &[]] {
        for (number, instance) in fleet.instances.iter().enumerate() {
            let mode = if without_notifications.contains(&number) {
                Mode::DropNotifications
            } else {
                Mode::Open
            };
            instance.proxy.set(mode);
        }
        for _ in 0..3 {
            let (key, target) = fleet.cached_key();
            let target = Arc::new(target);
            targets.set(0, &target);
            let took = fleet.revoke(0, &key);
            target.promise_rejected();
            fleet.assert_rejected_everywhere(&key);
            assert_within_a_lease(took);
        }
    }
    drop(load);
    targets.assert_no_violation();
}
