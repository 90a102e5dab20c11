//! The cache of keys: it is used for one lease without the database.

use std::time::{Duration, Instant};

use super::{
    fleet::{Fleet, LEASE, SLACK, await_that, full_key},
    support::proxy::Mode,
};

#[test]
fn cached_key_is_accepted_without_the_database_for_one_lease() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (key, _) = fleet.cached_key();
    for (instance, wire) in fleet.instances.iter().zip(&mut fleet.wires()) {
        assert_eq!(wire.use_key(full_key(&key)).unwrap().status, 200);
        instance.proxy.set(Mode::Cut);
        // A lease is renewed long before it expires, so there is time for many requests.
        for _ in 0..20 {
            let response = wire.use_key(full_key(&key)).unwrap();
            assert_eq!(response.status, 200, "{response:?}");
        }
        let condition = "the key is rejected without the database";
        await_that(condition, LEASE + SLACK, || {
            wire.use_key(full_key(&key)).unwrap().status == 503
        });
    }
}

#[test]
fn instance_without_a_lease_queries_the_database_for_each_request() {
    let no_lease = [("CACHE_LEASE_SECONDS", "0")];
    let Some(fleet) = Fleet::start_with([&no_lease, &[], &[]]) else {
        return;
    };
    let (key, _) = fleet.cached_key();
    let mut wire = fleet.wires().swap_remove(0);
    assert_eq!(wire.use_key(full_key(&key)).unwrap().status, 200);
    fleet.instances[0].proxy.set(Mode::Cut);
    assert_eq!(wire.use_key(full_key(&key)).unwrap().status, 503);

    // A revocation does not wait for an instance without a cache, although that instance is cut off.
    let started = Instant::now();
    fleet.revoke(1, &key);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}
