//! How long DELETE takes to answer, which it does when no instance accepts the key any more: with three
//! healthy instances, and with one of them stopped.
//!
//! `BENCH_DATABASE_URL=postgres://… cargo bench --bench revocation`, on an empty database.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

#[expect(dead_code, reason = "made for the other benchmarks as well")]
mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use support::{ask, get, member, p, post, program::Program, sign_up};

const HEALTHY: usize = 500;
const STOPPED: usize = 5;
/// Until an instance that goes on counts again.
const BACK: Duration = Duration::from_secs(1);

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
    let while_stopped = |_| {
        let delete = revoke();
        instances[2].signal("STOP");
        let took = delete(0);
        instances[2].signal("CONT");
        thread::sleep(BACK);
        took
    };
    report(
        "one of three stopped",
        (0..STOPPED).map(while_stopped).collect(),
    );
}

fn report(what: &str, took: Vec<Duration>) {
    let (count, p50, p99) = (took.len(), p(50, &took), p(99, &took));
    println!("DELETE, {what}: p50 {p50:?}, p99 {p99:?} of {count}");
}

/// Makes a key that all of them know. What it answers revokes it at one of them, and says how long that
/// took.
fn revoke<'a>(
    instances: &'a [Program],
    authorization: &'a str,
) -> impl Fn(usize) -> Duration + use<'a> {
    let created = ask(
        &instances[0].address,
        &post("/api-keys", authorization, "{}"),
    );
    let key = member(&created, "api_key");
    for instance in instances {
        let protected = get("/protected", &format!("x-api-key: {key}\r\n"));
        assert!(ask(&instance.address, &protected).starts_with("HTTP/1.1 200"));
    }
    let id = member(&created, "id");
    let request = format!("DELETE /api-keys/{id} HTTP/1.1\r\nhost: x\r\n{authorization}\r\n");
    move |at| {
        let asked = Instant::now();
        assert!(ask(&instances[at].address, &request).starts_with("HTTP/1.1 200"));
        asked.elapsed()
    }
}
