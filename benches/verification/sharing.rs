//! How much of a rate limit is let through by three instances that share it, and are asked for more.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use latchkey::{config::LimitConfig, domain::limit::RateLimit};

use crate::support::{
    engine::Leased,
    keys::{self, Limits},
    redis::Redis,
};

const INSTANCES: usize = 3;
/// Clients of each instance. Who is refused asks again soon.
const CLIENTS: usize = 4;
const AGAIN_AFTER: Duration = Duration::from_millis(1);
const ROUND: Duration = Duration::from_secs(6);

/// Instances with a database each: what they share is counted by the key's id, which is the same.
pub(super) fn measure(redis: &Redis) {
    let instances = INSTANCES;
    println!("{instances} instances with one Redis, {CLIENTS} clients of each, for {ROUND:?}");
    for (limit, window) in [(2000, 1), (100, 1), (2000, 10), (6000, 60)] {
        let limit = RateLimit::new(limit, window).unwrap();
        let asked = redis.scripts();
        let (admitted, elapsed) = saturate(limit, redis);
        let asked = redis.scripts() - asked;
        let rate = limit.limit() as f64 / f64::from(window);
        let back = rate * elapsed.as_secs_f64();
        let (burst, admitted) = (limit.limit() as f64, admitted as f64);
        println!(
            "  {burst} per {window} s: {admitted} let in, {:.3} of the burst and what comes back in {elapsed:.1?}, \
             {:.3} of the latter alone; Redis was asked {asked} times",
            admitted / (burst + back),
            (admitted - burst) / back
        );
    }
}

/// How many requests are let in, and in what time.
fn saturate(limit: RateLimit, redis: &Redis) -> (usize, Duration) {
    redis.empty();
    let limits = Limits {
        rate: Some(limit),
        quota: None,
    };
    let config = LimitConfig {
        redis_url: Some(redis.url.parse().unwrap()),
        ..LimitConfig::default()
    };
    // The first one is used until there is a lease.
    let keys = keys::generate(2);
    let instances = [(); INSTANCES].map(|()| Leased::with(keys.clone(), limits, &config));
    let together = Barrier::new(INSTANCES * CLIENTS);
    let client = |instance: &Leased| {
        together.wait();
        let (started, mut admitted) = (Instant::now(), 0);
        while started.elapsed() < ROUND {
            match instance.admits(&keys[1]) {
                true => admitted += 1,
                false => thread::sleep(AGAIN_AFTER),
            }
        }
        (admitted, started.elapsed())
    };
    thread::scope(|scope| {
        let clients = instances.iter().flat_map(|instance| [instance; CLIENTS]);
        let clients: Vec<_> = clients
            .map(|one| scope.spawn(move || client(one)))
            .collect();
        let ended = clients.into_iter().map(|client| client.join().unwrap());
        let (admitted, took): (Vec<_>, Vec<_>) = ended.unzip();
        (admitted.iter().sum(), took.into_iter().max().unwrap())
    })
}
