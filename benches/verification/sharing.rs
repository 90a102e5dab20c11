//! Number of requests that three instances allow under a shared rate limit, while clients send more than it allows.

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
/// Number of clients of each instance.
const CLIENTS: usize = 4;
/// Delay before a client repeats a rejected request.
const RETRY_DELAY: Duration = Duration::from_millis(1);
const ROUND: Duration = Duration::from_secs(6);

/// Measures instances with a database each. Redis counts by the id of the key, which is the same in all databases.
pub(super) fn measure(redis: &Redis) {
    let instances = INSTANCES;
    println!("{instances} instances with one Redis, {CLIENTS} clients per instance, for {ROUND:?}");
    for (limit, window) in [(2000, 1), (100, 1), (2000, 10), (6000, 60)] {
        let limit = RateLimit::new(limit, window).unwrap();
        let calls = redis.scripts();
        let (admitted, elapsed) = saturate(limit, redis);
        let calls = redis.scripts() - calls;
        let rate = limit.limit() as f64 / f64::from(window);
        let refilled = rate * elapsed.as_secs_f64();
        let (burst, admitted) = (limit.limit() as f64, admitted as f64);
        println!(
            "  {burst} per {window} s: {admitted} allowed, {:.3} of the burst plus the tokens refilled in \
             {elapsed:.1?}; without the burst {:.3} of the refilled tokens; {calls} calls of Redis",
            admitted / (burst + refilled),
            (admitted - burst) / refilled
        );
    }
}

/// Returns the number of allowed requests and the duration.
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
    // The first key is used while `Leased` waits for the lease, and the second one for the measurement.
    let keys = keys::generate(2);
    let instances = [(); INSTANCES].map(|()| Leased::with(keys.clone(), limits, &config));
    let start = Barrier::new(INSTANCES * CLIENTS);
    let client = |instance: &Leased| {
        start.wait();
        let (started, mut admitted) = (Instant::now(), 0);
        while started.elapsed() < ROUND {
            if instance.admits(&keys[1]) {
                admitted += 1;
            } else {
                thread::sleep(RETRY_DELAY);
            }
        }
        (admitted, started.elapsed())
    };
    thread::scope(|scope| {
        let clients = instances.iter().flat_map(|instance| [instance; CLIENTS]);
        let clients: Vec<_> = clients
            .map(|instance| scope.spawn(move || client(instance)))
            .collect();
        let results = clients.into_iter().map(|client| client.join().unwrap());
        let (admitted, durations): (Vec<_>, Vec<_>) = results.unzip();
        (admitted.iter().sum(), durations.into_iter().max().unwrap())
    })
}
