//! Without the database, instances under load answer from memory for one lease and then refuse; with it
//! again, they go on.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{
    fleet::{Fleet, LEASE, await_that, text_of},
    load::Load,
    support::proxy::Mode,
    wire::Answer,
};

/// Between what this test knows of time and what an instance does.
const MARGIN: Duration = Duration::from_millis(500);
/// How soon all must be good again; it is a tenth of that where nothing else goes on.
const RECOVERY: Duration = Duration::from_secs(5);
/// How much longer a refusal may still occur.
const SETTLING: Duration = Duration::from_secs(1);
const CLIENTS_PER_INSTANCE: usize = 4;

struct Seen {
    instance: usize,
    sent: Instant,
    answered: Instant,
    answer: Answer,
}

#[test]
fn without_the_database_no_instance_accepts_a_key_for_longer_than_a_lease() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (key, _) = fleet.known_key();
    let key = text_of(&key).to_owned();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let noted = seen.clone();
    let bases = [(); CLIENTS_PER_INSTANCE].map(|()| fleet.bases()).concat();
    let load = Load::on(&bases, move |client, wire| {
        let sent = Instant::now();
        let answer = wire.ask(&key).expect("an answer");
        noted.lock().unwrap().push(Seen {
            instance: client % 3,
            sent,
            answered: Instant::now(),
            answer,
        });
        thread::sleep(Duration::from_millis(5));
    });
    for _ in 0..2 {
        thread::sleep(MARGIN);
        let cut = Instant::now();
        set_all(&fleet, Mode::Cut);
        thread::sleep(LEASE + 2 * MARGIN);
        // A request may wait for the database for a while before it is refused.
        let all = |since: Instant, status: u16| {
            let seen = seen.lock().unwrap();
            let such = |seen: &&Seen| seen.answer.status == status && seen.sent > since;
            (0..3).all(|instance| seen.iter().filter(such).any(|s| s.instance == instance))
        };
        await_that("all instances refuse", Duration::from_secs(20), || {
            all(cut + LEASE, 503)
        });
        let opened = Instant::now();
        set_all(&fleet, Mode::Open);
        let recovered = await_that("all instances accept", RECOVERY, || all(opened, 200));
        thread::sleep(2 * SETTLING);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        for instance in 0..3 {
            let own = || seen.iter().filter(move |seen| seen.instance == instance);
            for seen in own() {
                check(seen, cut, opened);
            }
            let since = |seen: &Seen| seen.sent.duration_since(opened);
            let after = || own().filter(|seen| seen.sent > opened);
            let good = after().find(|seen| seen.answer.status == 200).map(since);
            let bad = after().filter(|seen| seen.answer.status != 200).map(since);
            let bad = bad.max();
            eprintln!("instance {instance}: good again after {good:?}, last bad after {bad:?}");
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
        answer,
    } = seen;
    match answer.status {
        // Who waited until the database was there again may be told what it says.
        200 if *answered < opened => {
            let late = sent.saturating_duration_since(cut);
            assert!(late < LEASE + MARGIN, "instance {instance}: {late:?}");
        }
        200 => {}
        503 => {
            assert!(*answered > cut, "instance {instance}: {answer:?}");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
        _ => panic!("instance {instance}: {answer:?}"),
    }
}
