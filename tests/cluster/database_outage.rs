//! Database outage under load: instances respond from their cache for one lease and then reject keys. They accept keys
//! again when the database is back.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{
    fleet::{Fleet, LEASE, await_that, full_key},
    load::Load,
    support::proxy::Mode,
    wire::Response,
};

/// Difference between the times that the test measures and those of an instance.
const MARGIN: Duration = Duration::from_millis(500);
/// Time within which all instances must accept keys again. On an idle machine it takes a tenth of that.
const RECOVERY: Duration = Duration::from_secs(5);
/// Time after the recovery during which a rejection may still occur.
const SETTLING: Duration = Duration::from_secs(1);
const CLIENTS_PER_INSTANCE: usize = 4;

struct Seen {
    instance: usize,
    sent: Instant,
    answered: Instant,
    response: Response,
}

#[test]
fn cached_key_is_rejected_one_lease_after_the_database_is_lost() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (key, _) = fleet.cached_key();
    let key = full_key(&key).to_owned();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let recorder = seen.clone();
    let bases = [(); CLIENTS_PER_INSTANCE].map(|()| fleet.bases()).concat();
    let load = Load::on(&bases, move |client, wire| {
        let sent = Instant::now();
        let response = wire.use_key(&key).expect("a response");
        recorder.lock().unwrap().push(Seen {
            instance: client % 3,
            sent,
            answered: Instant::now(),
            response,
        });
        thread::sleep(Duration::from_millis(5));
    });
    for _ in 0..2 {
        thread::sleep(MARGIN);
        let cut = Instant::now();
        set_all(&fleet, Mode::Cut);
        thread::sleep(LEASE + 2 * MARGIN);
        // A request may wait for the database for a while before it is rejected.
        let all = |since: Instant, status: u16| {
            let seen = seen.lock().unwrap();
            let matches = |seen: &&Seen| seen.response.status == status && seen.sent > since;
            (0..3).all(|instance| seen.iter().filter(matches).any(|s| s.instance == instance))
        };
        await_that(
            "all instances reject the key",
            Duration::from_secs(20),
            || all(cut + LEASE, 503),
        );
        let opened = Instant::now();
        set_all(&fleet, Mode::Open);
        let recovered = await_that("all instances accept the key", RECOVERY, || {
            all(opened, 200)
        });
        thread::sleep(2 * SETTLING);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        for instance in 0..3 {
            let own = || seen.iter().filter(move |seen| seen.instance == instance);
            for seen in own() {
                check(seen, cut, opened);
            }
            let since = |seen: &Seen| seen.sent.duration_since(opened);
            let after = || own().filter(|seen| seen.sent > opened);
            let good = after().find(|seen| seen.response.status == 200).map(since);
            let bad = after()
                .filter(|seen| seen.response.status != 200)
                .map(since);
            let bad = bad.max();
            eprintln!(
                "instance {instance}: accepts again after {good:?}, last rejection after {bad:?}"
            );
            assert!(bad.is_none_or(|bad| bad < recovered + SETTLING));
        }
    }
    drop(load);
}

fn set_all(fleet: &Fleet, mode: Mode) {
    for instance in &fleet.instances {
        instance.proxy.set(mode);
    }
}

fn check(seen: &Seen, cut: Instant, opened: Instant) {
    let Seen {
        instance,
        sent,
        answered,
        response,
    } = seen;
    match response.status {
        // A request that waited until the database was back may get its result.
        200 if *answered < opened => {
            let late = sent.saturating_duration_since(cut);
            assert!(late < LEASE + MARGIN, "instance {instance}: {late:?}");
        }
        200 => {}
        503 => {
            assert!(*answered > cut, "instance {instance}: {response:?}");
            assert!(response.header("retry-after").is_some(), "{response:?}");
        }
        _ => panic!("instance {instance}: {response:?}"),
    }
}
