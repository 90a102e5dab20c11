//! There is a cache, and it is trusted for one lease.

use std::time::{Duration, Instant};

use super::{
    fleet::{Fleet, LEASE, SLACK, await_that, text_of},
    support::proxy::Mode,
};

#[test]
fn a_key_in_use_is_served_without_the_database_for_a_while() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (key, _) = fleet.known_key();
    for (instance, wire) in fleet.instances.iter().zip(&mut fleet.wires()) {
        assert_eq!(wire.ask(text_of(&key)).unwrap().status, 200);
        instance.proxy.set(Mode::Cut);
        // A lease is renewed long before its end, so there is time for many.
        for _ in 0..20 {
            let answer = wire.ask(text_of(&key)).unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let ends = "it refuses without the database";
        await_that(ends, LEASE + SLACK, || {
            wire.ask(text_of(&key)).unwrap().status == 503
        });
    }
}

#[test]
fn without_a_lease_each_request_asks_the_database() {
    let none = [("CACHE_LEASE_SECONDS", "0")];
    let Some(fleet) = Fleet::start_with([&none, &[], &[]]) else {
        return;
    };
    let (key, _) = fleet.known_key();
    let mut wire = fleet.wires().swap_remove(0);
    assert_eq!(wire.ask(text_of(&key)).unwrap().status, 200);
    fleet.instances[0].proxy.set(Mode::Cut);
    assert_eq!(wire.ask(text_of(&key)).unwrap().status, 503);

    // Nobody waits for an instance that remembers nothing, though it is cut off.
    let asked = Instant::now();
    fleet.revoke(1, &key);
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
}
