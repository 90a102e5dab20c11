//! Redis outages: each instance counts its share of a rate limit, and no request waits long for Redis. When Redis is
//! back, the instances share the limit again.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    callers::{LIMIT, admitted},
    fleet::{Fleet, LEASE, await_that, full_key},
    redis_log::{AWAY, assert_once_each, assert_undisturbed, await_away, await_back, same},
    support::{
        proxy::{Mode, Proxy},
        redis::Server,
    },
    traffic::{PerSecond, Seen, Traffic, count_admitted, percentiles},
};

const INSTANCES: usize = 3;
/// Share of [`LIMIT`] of each instance without Redis.
const SHARE: usize = LIMIT.div_ceil(INSTANCES);
/// Longest time that a request may take on a busy machine, including 50 ms for Redis.
const BOUND: Duration = Duration::from_secs(1);

fn key_with(fleet: &Fleet, limit: usize, window_seconds: u32) -> Value {
    let rate_limit = json!({"limit": limit, "window_seconds": window_seconds});
    let ada = fleet.at(0, &fleet.ada);
    ada.create_key_with(&json!({"rate_limit": rate_limit}))
}

/// Starts three instances and waits until they know each other: before that each has a larger share.
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

/// Returns how many of 200 requests each instance allows.
fn admitted_of(fleet: &Fleet, key: &Value) -> Vec<usize> {
    admitted(&fleet.bases(), &[full_key(key)], "rate_limited")
}

#[track_caller]
fn assert_shared(fleet: &Fleet) {
    assert_undisturbed(&fleet.instances, || {
        let admitted = admitted_of(fleet, &fresh_key(fleet));
        same(admitted.iter().sum::<usize>(), LIMIT)
    });
}

/// Stops all instances, and asserts that each has logged `times` outages of Redis and as many recoveries.
#[track_caller]
fn assert_outages_logged(fleet: &mut Fleet, times: usize) {
    for instance in fleet.instances.drain(..) {
        assert_once_each(&instance.program.stop(), times);
    }
}

/// Keys in use at all instances: one that soon reaches its limit, one that never does, and one that is used more often
/// than its limit allows.
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
                .create_key_with(&BUSY_LIMIT.settings()),
        ];
        let traffic = Traffic::on(&fleet.bases(), &keys.each_ref().map(full_key), 2);
        traffic.await_everywhere("the limit is reached", |seen| {
            seen.key == USED_UP && seen.status == Some(429)
        });
        // Waits until the load is steady.
        thread::sleep(Duration::from_secs(1));
        Self { traffic }
    }

    /// Stops the load and asserts what must hold although Redis was away between `since` and `until`.
    #[track_caller]
    fn stop(self, scenario: &str, since: Instant, until: Instant) -> Vec<Seen> {
        let seen = self.traffic.stop();
        let right = |s: &Seen| s.is_admitted() || s.key != NEVER_USED_UP && s.status == Some(429);
        if let Some(wrong) = seen.iter().find(|seen| !right(seen)) {
            panic!("{scenario}: {wrong:?}");
        }
        let away = seen.iter().filter(|s| s.sent >= since && s.sent < until);
        let [median, p99, max] = percentiles(away);
        eprintln!("{scenario}: during the outage {median:?}, p99 {p99:?}, at most {max:?}");
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
            "{scenario}: {used_up} of {LIMIT}; {busy} of a busy key, of at most {most:.0}; worst interval \
             {excess:+.1}"
        );
        let twice = f64::from(BUSY_LIMIT.0) + INSTANCES as f64;
        assert!(excess <= twice, "{excess}");
        assert!(busy as f64 >= 0.5 * most, "{busy} of {most}");
        seen
    }
}

/// Causes an outage of Redis under load, ends it, and asserts that the service continues.
fn assert_survives_outage(
    scenario: &str,
    begin_outage: fn(&mut Server),
    end_outage: fn(&mut Server),
) {
    let Some(mut redis) = Server::start() else {
        return;
    };
    let Some(mut fleet) = with_redis(&redis) else {
        return;
    };
    let in_use = InUse::of(&fleet);
    let since = Instant::now();
    begin_outage(&mut redis);
    await_away(&fleet.instances);
    let detected = Instant::now();
    let key = fresh_key(&fleet);
    let shares = admitted_of(&fleet, &key);
    assert_eq!(shares, [SHARE; INSTANCES]);
    thread::sleep(Duration::from_secs(2));
    let until = Instant::now();
    end_outage(&mut redis);
    await_back(&fleet.instances);
    eprintln!(
        "{scenario}: detected after {:?}, back after {:?}",
        detected.duration_since(since),
        until.elapsed()
    );
    let more = admitted_of(&fleet, &key).iter().sum::<usize>();
    assert!(SHARE * INSTANCES + more <= 2 * LIMIT + INSTANCES, "{more}");
    assert_shared(&fleet);
    let seen = in_use.stop(scenario, since, until);

    // Instances do not try Redis, and wait for the full time limit, with each request.
    let meanwhile = |seen: &&Seen| seen.sent >= detected && seen.sent < until;
    let of_those = |key: usize| move |seen: &&Seen| seen.key == key;
    for key in [USED_UP, NEVER_USED_UP, BUSY] {
        let [median, ..] = percentiles(seen.iter().filter(meanwhile).filter(of_those(key)));
        assert!(median < Duration::from_millis(40), "{median:?}");
    }
    assert_outages_logged(&mut fleet, 1);
}

#[test]
fn killed_redis_makes_instances_count_shares_until_it_is_back() {
    assert_survives_outage("killed", Server::kill, Server::start_again);
}

#[test]
fn hung_redis_makes_instances_count_shares_until_it_responds() {
    assert_survives_outage(
        "hung",
        |redis| redis.signal("STOP"),
        |redis| redis.signal("CONT"),
    );
}

#[test]
fn redis_restarted_empty_is_used_again() {
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
    assert_outages_logged(&mut fleet, 1);
}

#[test]
fn redis_unreachable_for_one_instance_is_used_by_the_others() {
    let Some(redis) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(&redis.url);
    let [through_proxy, direct] = [&proxy.url, &redis.url].map(|url| [("REDIS_URL", url.as_str())]);
    let Some(mut fleet) = fleet([&through_proxy, &direct, &direct]) else {
        return;
    };
    let key = key_with(&fleet, 1_000_000, 60);
    let modes = [Mode::Cut, Mode::Stuck];
    for mode in modes {
        assert_shared(&fleet);
        let traffic = Traffic::on(&fleet.bases()[..1], &[full_key(&key)], 2);
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
    assert_outages_logged(&mut fleet, modes.len());
    fleet.instances = others;
    assert_outages_logged(&mut fleet, 0);
}

#[test]
fn redis_missing_at_the_start_is_used_once_it_is_reachable() {
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
    assert_outages_logged(&mut fleet, 1);
}
