//! Quota blocks, the part of a quota that an instance has reserved: a block is lost if the instance is killed, and is
//! never spent twice.

use std::{
    slice::from_ref,
    thread,
    time::{Duration, Instant},
};

use super::{
    callers::spend_rest,
    fleet::{Fleet, full_key, start},
    quotas::{ERROR_CODE, key_with},
    support::proxy::Mode,
    traffic::{Seen, Traffic, count_admitted},
};

/// Quota of the keys in this file.
const QUOTA: usize = 300;
const CLIENTS: usize = 4;
const KILLS: usize = 20;

/// Uses a key at these servers until a third of its quota is spent.
fn spend_a_third(bases: &[String], key: &str) -> Traffic {
    let traffic = Traffic::on(bases, &[key], CLIENTS);
    traffic.await_seen("a third is spent", QUOTA / 3, Seen::is_admitted);
    traffic
}

/// Spends the rest of the quota, and returns how much that was.
#[track_caller]
fn rest(bases: &[String], key: &str) -> usize {
    let rest = spend_rest(bases, key, ERROR_CODE);
    // An instance uses the quota state that it has read for one second, even if others have returned blocks since.
    thread::sleep(Duration::from_millis(1100));
    rest + spend_rest(bases, key, ERROR_CODE)
}

/// Result of the requests with a key around the kill of an instance.
struct Killed {
    admitted: usize,
    /// Requests without a response, each of which may have been allowed.
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

    /// Asserts that no more than the quota is spent, and returns the part of the quota that is lost.
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
fn busy_instance_leaves_most_of_the_remaining_quota_to_the_others() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let (busy, others) = (&fleet.bases()[..1], &fleet.bases()[1..]);
    for _ in 0..3 {
        let key = key_with(&fleet.at(0, &fleet.ada), QUOTA);
        let by_it = count_admitted(&spend_a_third(busy, full_key(&key)).stop());
        let by_others = spend_rest(others, full_key(&key), ERROR_CODE);
        let at_last = spend_rest(busy, full_key(&key), ERROR_CODE);
        eprintln!(
            "{by_it} by the busy instance, {by_others} by the others, {at_last} by the busy one at last"
        );
        assert_eq!(by_it + by_others + at_last, QUOTA);
        assert!(4 * by_others >= 3 * (QUOTA - by_it), "{by_others}");
    }
}

#[test]
fn killed_instance_in_a_fleet_loses_only_its_quota_block() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    let lost = [(); KILLS].map(|()| {
        let key = key_with(&fleet.at(0, &fleet.ada), QUOTA);
        let traffic = spend_a_third(&fleet.bases(), full_key(&key));
        let killed = Instant::now();
        drop(fleet.instances.remove(0));
        let killed = Killed::of(&traffic.stop(), killed);
        fleet.join(&[]);
        killed.lost(spend_rest(&fleet.bases(), full_key(&key), ERROR_CODE))
    });
    assert_few(&lost);
}

#[test]
fn killed_single_instance_loses_only_its_quota_block() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = start(folder.path(), &[]);
    let ada = program.client().sign_up("ada@example.com");
    let ada = ada.header("authorization");
    let lost = [(); KILLS].map(|()| {
        let key = key_with(&program.client().with("authorization", &ada), QUOTA);
        let traffic = spend_a_third(from_ref(&program.base), full_key(&key));
        let killed = Instant::now();
        program.signal("KILL");
        program.wait();
        let killed = Killed::of(&traffic.stop(), killed);
        program = start(folder.path(), &[]);
        killed.lost(spend_rest(
            from_ref(&program.base),
            full_key(&key),
            ERROR_CODE,
        ))
    });
    assert_few(&lost);
}

/// Without a drain period. While it drains, an instance continues to serve, and would use up its block.
const NO_DRAIN: [(&str, &str); 1] = [("DRAIN_SECONDS", "0")];

#[test]
fn shutdown_of_instances_under_load_returns_their_quota_blocks() {
    let Some(mut fleet) = Fleet::start_with([&NO_DRAIN; 3]) else {
        return;
    };
    for round in 0..6 {
        let key = key_with(&fleet.at(0, &fleet.ada), QUOTA);
        let traffic = spend_a_third(&fleet.bases(), full_key(&key));
        // Stops one instance, or all of them.
        let leaving = if round % 3 == 2 { 3 } else { 1 };
        let leaving: Vec<_> = fleet.instances.drain(..leaving).collect();
        thread::scope(|scope| {
            for instance in leaving {
                scope.spawn(|| {
                    // Keeps the proxy to the database until the instance has ended.
                    let leaving = instance;
                    leaving.program.stop()
                });
                fleet.join(&NO_DRAIN);
            }
        });
        let before = count_admitted(&traffic.stop());
        let rest = rest(&fleet.bases(), full_key(&key));
        eprintln!("{before} until the instances had stopped, {rest} after");
        assert_eq!(before + rest, QUOTA);
    }
}

#[test]
fn shutdown_of_a_single_instance_under_load_returns_its_quota_block() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = start(folder.path(), &NO_DRAIN);
    let ada = program.client().sign_up("ada@example.com");
    let key = key_with(&ada, QUOTA);
    let mut admitted = 0;
    for _ in 0..5 {
        let traffic = Traffic::on(from_ref(&program.base), &[full_key(&key)], CLIENTS);
        traffic.await_seen("some are admitted", QUOTA / 10, Seen::is_admitted);
        program.stop();
        admitted += count_admitted(&traffic.stop());
        program = start(folder.path(), &NO_DRAIN);
    }
    let rest = rest(from_ref(&program.base), full_key(&key));
    eprintln!("{admitted} in five runs, {rest} in the last");
    assert_eq!(admitted + rest, QUOTA);
}

/// Time after the first successful response during which rejections may still occur.
const SETTLING: Duration = Duration::from_secs(1);
/// Long enough for a running instance to return an idle block.
const IDLE: Duration = Duration::from_secs(6);

#[test]
fn paused_instance_keeps_its_quota_block_while_others_continue() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let owner = fleet.at(0, &fleet.ada);
    for pause in [Duration::from_millis(500), IDLE] {
        let key = key_with(&owner, QUOTA);
        let traffic = spend_a_third(&fleet.bases(), full_key(&key));
        fleet.instances[0].program.signal("STOP");
        // Both of the others have used up their blocks.
        for instance in [1, 2] {
            traffic.await_seen("an instance rejects the key", 1, |seen| {
                seen.instance == instance && seen.status == Some(429)
            });
        }
        thread::sleep(pause);
        fleet.instances[0].program.signal("CONT");
        let seen = traffic.stop();
        let admitted = count_admitted(&seen);
        let by_it = count_admitted(seen.iter().filter(|seen| seen.instance == 0));
        let rest = rest(&fleet.bases(), full_key(&key));
        eprintln!("{admitted} admitted, {by_it} by the paused one, {rest} at last");
        assert_eq!(admitted + rest, QUOTA);
    }
}

fn set_all(fleet: &Fleet, mode: Mode) {
    for instance in &fleet.instances {
        instance.proxy.set(mode);
    }
}

#[test]
fn quota_block_is_spent_and_not_exceeded_without_the_database() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let owner = fleet.at(0, &fleet.ada);
    for mode in [Mode::Cut, Mode::Stuck] {
        let (key, plain) = (key_with(&owner, QUOTA), owner.create_key());
        let unlimited = Traffic::on(&fleet.bases(), &[full_key(&plain)], 1);
        let traffic = spend_a_third(&fleet.bases(), full_key(&key));
        let cut = Instant::now();
        set_all(&fleet, mode);
        traffic.await_everywhere("the key is rejected without the database", |seen| {
            seen.status == Some(503)
        });
        let opened = Instant::now();
        set_all(&fleet, Mode::Open);
        traffic.await_everywhere("the key is accepted with the database", |seen| {
            seen.sent > opened && matches!(seen.status, Some(200 | 429))
        });
        thread::sleep(SETTLING);
        let seen = traffic.stop();
        let right = |s: &Seen| matches!(s.status, Some(200 | 429 | 503));
        assert!(seen.iter().all(right));

        // The keys were rejected because of the quota: a key without one was accepted meanwhile.
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
        let rest = rest(&fleet.bases(), full_key(&key));
        let lost = QUOTA.checked_sub(before + without + after + rest);
        eprintln!(
            "{mode:?}: {before} admitted before, {without} without the database, {after} and {rest} \
             after, {lost:?} lost"
        );
        let lost = lost.expect("no more than the quota");
        // An instance that got no response to a reservation does not know whether it has the block.
        assert!(lost < QUOTA / 4, "{lost}");
    }
}
