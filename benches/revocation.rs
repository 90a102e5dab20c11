//! Latency of DELETE, which responds when no instance accepts the key any more: with three healthy instances, and with
//! one of them paused.
//!
//! `BENCH_DATABASE_URL=postgres://… cargo bench --bench revocation`, on an empty database.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

#[expect(dead_code, reason = "shared with the other benchmarks")]
mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use support::{get, json_member, p, post, program::Program, send, sign_up};

/// Number of revocations with three healthy instances.
const HEALTHY: usize = 500;
/// Number of revocations with a paused instance.
const PAUSED: usize = 5;
/// Time until a resumed instance holds a lease again.
const RECOVERY: Duration = Duration::from_secs(1);

fn main() {
    let Ok(url) = std::env::var("BENCH_DATABASE_URL") else {
        println!("set BENCH_DATABASE_URL to an empty PostgreSQL database");
        return;
    };
    let instances = [(); 3].map(|()| Program::start(&url));
    let authorization = sign_up(&instances[0].address);
    let revoke = || revoke(&instances, &authorization);

    report(
        "three healthy instances",
        (0..HEALTHY).map(|_| revoke()(0)).collect(),
    );
    let while_paused = |_| {
        let delete = revoke();
        instances[2].signal("STOP");
        let latency = delete(0);
        instances[2].signal("CONT");
        thread::sleep(RECOVERY);
        latency
    };
    report(
        "one of three paused",
        (0..PAUSED).map(while_paused).collect(),
    );
}

fn report(name: &str, latencies: Vec<Duration>) {
    let (count, p50, p99) = (latencies.len(), p(50, &latencies), p(99, &latencies));
    println!("DELETE, {name}: p50 {p50:?}, p99 {p99:?} of {count}");
}

/// Creates a key and uses it on all instances, so that all have it in their cache. Returns a function that revokes it
/// on one instance and returns the latency.
fn revoke<'a>(
    instances: &'a [Program],
    authorization: &'a str,
) -> impl Fn(usize) -> Duration + use<'a> {
    let created = send(
        &instances[0].address,
        &post("/api-keys", authorization, "{}"),
    );
    let key = json_member(&created, "api_key");
    for instance in instances {
        let protected = get("/protected", &format!("x-api-key: {key}\r\n"));
        assert!(send(&instance.address, &protected).starts_with("HTTP/1.1 200"));
    }
    let id = json_member(&created, "id");
    let request = format!("DELETE /api-keys/{id} HTTP/1.1\r\nhost: x\r\n{authorization}\r\n");
    move |at| {
        let started = Instant::now();
        assert!(send(&instances[at].address, &request).starts_with("HTTP/1.1 200"));
        started.elapsed()
    }
}
