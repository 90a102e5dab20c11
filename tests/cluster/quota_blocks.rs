//! What an instance has in hand of a quota: it is lost where the instance is killed, and never spent twice
//! whatever happens.

use std::{
    slice::from_ref,
    thread,
    time::{Duration, Instant},
};

use super::{
    callers::spend_rest,
    fleet::{Fleet, start, text_of},
    quotas::{REFUSED, key_with},
    support::proxy::Mode,
    traffic::{Seen, Traffic, count_admitted},
};

/// Of the keys in this file.
const QUOTA: usize = 300;
const CLIENTS: usize = 4;
const KILLS: usize = 20;

/// Uses a key at these servers until a third of its quota is spent.
fn spend_a_third(bases: &[String], key: &str) -> Traffic {
    let traffic = Traffic::on(bases, &[key], CLIENTS);
    traffic.await_seen("a third is spent", QUOTA / 3, Seen::is_admitted);
    traffic
}

/// What is left, once it is spent.
#[track_caller]
fn rest(bases: &[String], key: &str) -> usize {
    let rest = spend_rest(bases, key, REFUSED);
    // An instance goes for a second by what it has read of it, though others have given back since.
    thread::sleep(Duration::from_millis(1100));
    rest + spend_rest(bases, key, REFUSED)
}

/// What those saw of a key who used it when an instance was killed.
struct Killed {
    admitted: usize,
    /// Requests that were not answered, each of which may have been admitted.
    in_flight: usize,
}

impl Killed {
    fn of(seen: &[Seen], killed: Instant) -> Self {
        let in_flight = |s: &&Seen| s.status.is_none() && s.sent <= killed;
        Self {
            admitted: count_admitted(seen),
            in_flight: seen.iter().filter(in_flight).count(),
        }
    }

    /// Asserts that no more than the quota is spent, and answers what nobody can spend any more.
    #[track_caller]
    fn lost(&self, rest: usize) -> usize {
        let Self {
            admitted,
            in_flight,
        } = self;
        let lost = QUOTA.checked_sub(admitted + rest);
        eprintln!("{admitted} before the kill, {in_flight} in flight, {rest} after, {lost:?} lost");
        lost.expect("no more than the quota")
    }
}

#[track_caller]
fn assert_few(lost: &[usize]) {
    let sum = lost.iter().sum::<usize>();
    eprintln!("lost of {QUOTA} in {KILLS} kills: {lost:?}, {sum} in all");
    assert!(sum < KILLS * QUOTA / 10, "{lost:?}");
}

#[test]
fn an_instance_in_much_use_leaves_the_others_most_of_what_is_left() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (busy, others) = (&fleet.bases()[..1], &fleet.bases()[1..]);
    for _ in 0..3 {
        let key = key_with(&fleet.at(0, &fleet.ada), QUOTA);
        let by_it = count_admitted(&spend_a_third(busy, text_of(&key)).stop());
        let by_others = spend_rest(others, text_of(&key), REFUSED);
        let at_last = spend_rest(busy, text_of(&key), REFUSED);
        eprintln!("{by_it} by one in much use, {by_others} by others, {at_last} by it at last");
        assert_eq!(by_it + by_others + at_last, QUOTA);
        assert!(4 * by_others >= 3 * (QUOTA - by_it), "{by_others}");
    }
}

#[test]
fn killed_amid_others_an_instance_takes_only_what_it_had_in_hand_with_it() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    let lost = [(); KILLS].map(|()| {
        let key = key_with(&fleet.at(0, &fleet.ada), QUOTA);
        let traffic = spend_a_third(&fleet.bases(), text_of(&key));
        let killed = Instant::now();
        drop(fleet.instances.remove(0));
        let killed = Killed::of(&traffic.stop(), killed);
        fleet.join(&[]);
        killed.lost(spend_rest(&fleet.bases(), text_of(&key), REFUSED))
    });
    assert_few(&lost);
}

#[test]
fn killed_alone_an_instance_takes_only_what_it_had_in_hand_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = start(folder.path(), &[]);
    let ada = program.client().sign_up("ada@example.com");
    let ada = ada.header("authorization");
    let lost = [(); KILLS].map(|()| {
        let key = key_with(&program.client().with("authorization", &ada), QUOTA);
        let traffic = spend_a_third(from_ref(&program.base), text_of(&key));
        let killed = Instant::now();
        program.signal("KILL");
        program.wait();
        let killed = Killed::of(&traffic.stop(), killed);
        program = start(folder.path(), &[]);
        killed.lost(spend_rest(from_ref(&program.base), text_of(&key), REFUSED))
    });
    assert_few(&lost);
}

/// Or there would be nothing left to take along: who stops serves on for a while.
const AT_ONCE: [(&str, &str); 1] = [("DRAIN_SECONDS", "0")];

#[test]
fn stopped_in_order_under_load_no_instance_takes_anything_with_it() {
    let Some(mut fleet) = Fleet::start_with([&AT_ONCE; 3]) else {
        return;
    };
    for round in 0..6 {
        let key = key_with(&fleet.at(0, &fleet.ada), QUOTA);
        let traffic = spend_a_third(&fleet.bases(), text_of(&key));
        // One of them, or all.
        let leaving = if round % 3 == 2 { 3 } else { 1 };
        let leaving: Vec<_> = fleet.instances.drain(..leaving).collect();
        thread::scope(|scope| {
            for instance in leaving {
                scope.spawn(|| {
                    // It has its database until it has ended.
                    let leaving = instance;
                    leaving.program.stop()
                });
                fleet.join(&AT_ONCE);
            }
        });
        let before = count_admitted(&traffic.stop());
        let rest = rest(&fleet.bases(), text_of(&key));
        eprintln!("{before} until they had stopped, {rest} after");
        assert_eq!(before + rest, QUOTA);
    }
}

#[test]
fn stopped_alone_under_load_an_instance_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = start(folder.path(), &AT_ONCE);
    let ada = program.client().sign_up("ada@example.com");
    let key = key_with(&ada, QUOTA);
    let mut admitted = 0;
    for _ in 0..5 {
        let traffic = Traffic::on(from_ref(&program.base), &[text_of(&key)], CLIENTS);
        traffic.await_seen("some are admitted", QUOTA / 10, Seen::is_admitted);
        program.stop();
        admitted += count_admitted(&traffic.stop());
        program = start(folder.path(), &AT_ONCE);
    }
    let rest = rest(from_ref(&program.base), text_of(&key));
    eprintln!("{admitted} in five runs, {rest} in the last");
    assert_eq!(admitted + rest, QUOTA);
}

/// How much longer than until the first good answer there may be bad ones.
const SETTLING: Duration = Duration::from_secs(1);
/// Long enough for what is idle to be given back, if the instance could.
const IDLE: Duration = Duration::from_secs(6);

#[test]
fn while_an_instance_is_stopped_the_others_go_on_and_leave_what_it_has() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let owner = fleet.at(0, &fleet.ada);
    for pause in [Duration::from_millis(500), IDLE] {
        let key = key_with(&owner, QUOTA);
        let traffic = spend_a_third(&fleet.bases(), text_of(&key));
        fleet.instances[0].program.signal("STOP");
        // Both of the others have nothing any more.
        for instance in [1, 2] {
            traffic.await_seen("an instance refuses", 1, |seen| {
                seen.instance == instance && seen.status == Some(429)
            });
        }
        thread::sleep(pause);
        fleet.instances[0].program.signal("CONT");
        let seen = traffic.stop();
        let admitted = count_admitted(&seen);
        let by_it = count_admitted(seen.iter().filter(|seen| seen.instance == 0));
        let rest = rest(&fleet.bases(), text_of(&key));
        eprintln!("{admitted} admitted, {by_it} by the one that was stopped, {rest} at last");
        assert_eq!(admitted + rest, QUOTA);
    }
}

fn set_all(fleet: &Fleet, mode: Mode) {
    for instance in &fleet.instances {
        instance.proxy.set(mode);
    }
}

#[test]
fn without_the_database_what_is_in_hand_is_spent_and_no_more() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let owner = fleet.at(0, &fleet.ada);
    for mode in [Mode::Cut, Mode::Stuck] {
        let (key, plain) = (key_with(&owner, QUOTA), owner.create_key());
        let unlimited = Traffic::on(&fleet.bases(), &[text_of(&plain)], 1);
        let traffic = spend_a_third(&fleet.bases(), text_of(&key));
        let cut = Instant::now();
        set_all(&fleet, mode);
        traffic.await_everywhere("it refuses without the database", |seen| {
            seen.status == Some(503)
        });
        let opened = Instant::now();
        set_all(&fleet, Mode::Open);
        traffic.await_everywhere("it goes on with the database", |seen| {
            seen.sent > opened && matches!(seen.status, Some(200 | 429))
        });
        thread::sleep(SETTLING);
        let seen = traffic.stop();
        let right = |s: &Seen| matches!(s.status, Some(200 | 429 | 503));
        assert!(seen.iter().all(right));

        // It was the quota that it could not go on without.
        let bad = seen.iter().filter(|seen| seen.status == Some(503));
        let first_bad = bad.map(|seen| seen.sent).min().unwrap();
        let unlimited = unlimited.stop();
        let good = unlimited.iter().filter(|seen| seen.is_admitted());
        let mut good = good.filter(|seen| seen.answered < opened);
        assert!(good.any(|seen| seen.sent > first_bad));

        let before = count_admitted(seen.iter().filter(|seen| seen.sent < cut));
        let without = seen
            .iter()
            .filter(|seen| seen.sent > cut && seen.answered < opened);
        let without = count_admitted(without);
        let after = count_admitted(&seen) - before - without;
        let rest = rest(&fleet.bases(), text_of(&key));
        let lost = QUOTA.checked_sub(before + without + after + rest);
        eprintln!(
            "{mode:?}: {before} admitted before, {without} without the database, {after} and {rest} \
             after, {lost:?} lost"
        );
        let lost = lost.expect("no more than the quota");
        // Whose reservation was not answered does not know whether it has it.
        assert!(lost < QUOTA / 4, "{lost}");
    }
}
