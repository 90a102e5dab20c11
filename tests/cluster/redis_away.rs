//! Without Redis each instance goes on with its share of a limit, and no request waits for it for long;
//! with it again, they share the limit as before.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    callers::{LIMIT, admitted},
    fleet::{Fleet, LEASE, await_that, text_of},
    redis_said::{AWAY, assert_once_each, assert_undisturbed, await_away, await_back, same},
    support::{
        proxy::{Mode, Proxy},
        redis::Server,
    },
    traffic::{PerSecond, Seen, Traffic, count_admitted, percentiles},
};

const INSTANCES: usize = 3;
/// What each has of [`LIMIT`] where it cannot share.
const SHARE: usize = LIMIT.div_ceil(INSTANCES);
/// What a request may take on a machine with other things to do, of which 50 ms for Redis.
const BOUND: Duration = Duration::from_secs(1);

fn key_with(fleet: &Fleet, limit: usize, window_seconds: u32) -> Value {
    let rate_limit = json!({"limit": limit, "window_seconds": window_seconds});
    let ada = fleet.at(0, &fleet.ada);
    ada.create_key_with(&json!({"rate_limit": rate_limit}))
}

/// Three that know of each other, which takes them a moment: until then each has a larger share.
fn fleet(settings: [&[(&str, &str)]; INSTANCES]) -> Option<Fleet> {
    let fleet = Fleet::start_with(settings)?;
    await_that("all are registered", LEASE, || {
        fleet.registered() == INSTANCES
    });
    thread::sleep(LEASE);
    Some(fleet)
}

fn with_redis(redis: &Server) -> Option<Fleet> {
    fleet([&[("REDIS_URL", &redis.url)]; INSTANCES])
}

fn fresh_key(fleet: &Fleet) -> Value {
    key_with(fleet, LIMIT, 24 * 3600)
}

/// How many of 200 callers each instance admits.
fn admitted_of(fleet: &Fleet, key: &Value) -> Vec<usize> {
    admitted(&fleet.bases(), &[text_of(key)], "rate_limited")
}

#[track_caller]
fn assert_shared(fleet: &Fleet) {
    assert_undisturbed(&fleet.instances, || {
        let admitted = admitted_of(fleet, &fresh_key(fleet));
        same(admitted.iter().sum::<usize>(), LIMIT)
    });
}

/// Ends all instances. So many times each has said once that Redis was away, and once that it was back.
#[track_caller]
fn assert_said(fleet: &mut Fleet, times: usize) {
    for instance in fleet.instances.drain(..) {
        assert_once_each(&instance.program.stop(), times);
    }
}

/// Keys in use everywhere: one that is soon used up, one that never is, and one that is used more often
/// than its limit lets it.
struct InUse {
    traffic: Traffic,
}

const USED_UP: usize = 0;
const NEVER_USED_UP: usize = 1;
const BUSY: usize = 2;
const BUSY_LIMIT: PerSecond = PerSecond(200);

impl InUse {
    fn of(fleet: &Fleet) -> Self {
        let keys = [
            fresh_key(fleet),
            key_with(fleet, 1_000_000, 60),
            fleet
                .at(0, &fleet.ada)
                .create_key_with(&BUSY_LIMIT.choices()),
        ];
        let traffic = Traffic::on(&fleet.bases(), &keys.each_ref().map(text_of), 2);
        traffic.await_everywhere("the limit is reached", |seen| {
            seen.key == USED_UP && seen.status == Some(429)
        });
        // In use as it will be for long.
        thread::sleep(Duration::from_secs(1));
        Self { traffic }
    }

    /// Asserts what holds although Redis was away from `since` until it was given back.
    #[track_caller]
    fn stop(self, what: &str, since: Instant, until: Instant) -> Vec<Seen> {
        let seen = self.traffic.stop();
        let right = |s: &Seen| s.is_admitted() || s.key != NEVER_USED_UP && s.status == Some(429);
        if let Some(wrong) = seen.iter().find(|seen| !right(seen)) {
            panic!("{what}: {wrong:?}");
        }
        let away = seen.iter().filter(|s| s.sent >= since && s.sent < until);
        let [median, p99, max] = percentiles(away);
        eprintln!("{what}: while it was away {median:?}, p99 {p99:?}, at most {max:?}");
        let [_, _, max] = percentiles(&seen);
        assert!(max < BOUND, "{max:?}");

        let of = |key: usize| seen.iter().filter(move |seen| seen.key == key);
        let used_up = count_admitted(of(USED_UP));
        assert!(used_up <= 2 * LIMIT + INSTANCES, "{used_up}");
        let took = of(BUSY).map(|seen| seen.answered).max().unwrap();
        let took = took.duration_since(of(BUSY).map(|seen| seen.sent).min().unwrap());
        let (busy, most) = (count_admitted(of(BUSY)), BUSY_LIMIT.allowed(took));
        let excess = BUSY_LIMIT.excess(of(BUSY));
        eprintln!(
            "{what}: {used_up} of {LIMIT}; {busy} of a busy key, of {most:.0} allowed; worst stretch \
             {excess:+.1}"
        );
        let twice = f64::from(BUSY_LIMIT.0) + INSTANCES as f64;
        assert!(excess <= twice, "{excess}");
        assert!(busy as f64 >= 0.5 * most, "{busy} of {most}");
        seen
    }
}

/// Takes Redis away under load and gives it back.
fn assert_goes_on(what: &str, take: fn(&mut Server), give_back: fn(&mut Server)) {
    let Some(mut redis) = Server::start() else {
        return;
    };
    let Some(mut fleet) = with_redis(&redis) else {
        return;
    };
    let in_use = InUse::of(&fleet);
    let since = Instant::now();
    take(&mut redis);
    await_away(&fleet.instances);
    let noticed = Instant::now();
    let key = fresh_key(&fleet);
    let shares = admitted_of(&fleet, &key);
    assert_eq!(shares, [SHARE; INSTANCES]);
    thread::sleep(Duration::from_secs(2));
    let until = Instant::now();
    give_back(&mut redis);
    await_back(&fleet.instances);
    eprintln!(
        "{what}: noticed after {:?}, back after {:?}",
        noticed.duration_since(since),
        until.elapsed()
    );
    let more = admitted_of(&fleet, &key).iter().sum::<usize>();
    assert!(SHARE * INSTANCES + more <= 2 * LIMIT + INSTANCES, "{more}");
    assert_shared(&fleet);
    let seen = in_use.stop(what, since, until);

    // It isn't that each request tries, and waits for as long as it may.
    let meanwhile = |seen: &&Seen| seen.sent >= noticed && seen.sent < until;
    let of_those = |key: usize| move |seen: &&Seen| seen.key == key;
    for key in [USED_UP, NEVER_USED_UP, BUSY] {
        let [median, ..] = percentiles(seen.iter().filter(meanwhile).filter(of_those(key)));
        assert!(median < Duration::from_millis(40), "{median:?}");
    }
    assert_said(&mut fleet, 1);
}

#[test]
fn killed_it_is_done_without_until_it_is_there_again() {
    assert_goes_on("killed", Server::kill, Server::start_again);
}

#[test]
fn hung_it_is_done_without_until_it_goes_on() {
    assert_goes_on(
        "hung",
        |redis| redis.signal("STOP"),
        |redis| redis.signal("CONT"),
    );
}

#[test]
fn restarted_empty_it_is_used_as_before() {
    let Some(mut redis) = Server::start() else {
        return;
    };
    let Some(mut fleet) = with_redis(&redis) else {
        return;
    };
    let in_use = InUse::of(&fleet);
    let since = Instant::now();
    redis.kill();
    thread::sleep(Duration::from_millis(100));
    let until = Instant::now();
    redis.start_again();
    for instance in &fleet.instances {
        instance.program.await_line(AWAY);
    }
    await_back(&fleet.instances);
    assert_shared(&fleet);
    in_use.stop("restarted empty", since, until);
    assert_said(&mut fleet, 1);
}

#[test]
fn out_of_reach_of_one_instance_it_is_shared_by_the_others() {
    let Some(redis) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(&redis.url);
    let [far, near] = [&proxy.url, &redis.url].map(|url| [("REDIS_URL", url.as_str())]);
    let Some(mut fleet) = fleet([&far, &near, &near]) else {
        return;
    };
    let key = key_with(&fleet, 1_000_000, 60);
    let modes = [Mode::Cut, Mode::Stuck];
    for mode in modes {
        assert_shared(&fleet);
        let traffic = Traffic::on(&fleet.bases()[..1], &[text_of(&key)], 2);
        proxy.set(mode);
        await_away(&fleet.instances[..1]);
        assert_undisturbed(&fleet.instances[1..], || {
            let admitted = admitted_of(&fleet, &fresh_key(&fleet));
            same([admitted[0], admitted[1] + admitted[2]], [SHARE, LIMIT])
        });
        proxy.set(Mode::Open);
        await_back(&fleet.instances);
        let seen = traffic.stop();
        let [median, p99, max] = percentiles(&seen);
        eprintln!("{mode:?}: {median:?}, p99 {p99:?}, at most {max:?}");
        assert_eq!(count_admitted(&seen), seen.len());
        assert!(max < BOUND, "{max:?}");
    }
    assert_shared(&fleet);
    let others = fleet.instances.split_off(1);
    assert_said(&mut fleet, modes.len());
    fleet.instances = others;
    assert_said(&mut fleet, 0);
}

#[test]
fn not_there_at_the_start_it_is_done_without_until_it_is() {
    let Some(mut redis) = Server::start() else {
        return;
    };
    redis.kill();
    let Some(mut fleet) = with_redis(&redis) else {
        return;
    };
    for _ in 0..3 {
        let admitted = admitted_of(&fleet, &fresh_key(&fleet));
        assert_eq!(admitted, [SHARE; INSTANCES]);
    }
    await_away(&fleet.instances);
    redis.start_again();
    await_back(&fleet.instances);
    assert_shared(&fleet);
    assert_said(&mut fleet, 1);
}
