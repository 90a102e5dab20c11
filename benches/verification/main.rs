//! Throughput of key checks over HTTP, and related measurements.
//!
//! - Requests per second with and without limits, compared with a route without a check and with nginx in the same run.
//! - Start time of the service with a full table, and memory per cached key.
//! - Number of requests that three instances allow under a shared rate limit.
//!
//! `cargo bench --bench verification`, on SQLite; on PostgreSQL too where `BENCH_DATABASE_URL` names an
//! empty database. Load and server share the machine, so only the ratios mean something. The program runs
//! with its defaults, in a process of its own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

mod limits;
mod rates;
mod sharing;
mod start;
#[expect(dead_code, reason = "shared with the other benchmarks")]
#[path = "../support/mod.rs"]
mod support;

use support::{
    EMAIL, json_member, keys,
    keys::Table,
    load::{self, Rate},
    on_both_databases, post,
    program::{Program, make_admin},
    redis::Redis,
    send, sign_up,
};

/// Number of keys in the table.
const TABLE: usize = 1_000_000;
/// Number of those keys that are used at all.
const USED: usize = 100_000;
/// Number of used keys that the load cycles through.
const WORKING_SET: usize = 10_000;

fn main() {
    let redis = Redis::start();
    match &redis {
        Some(redis) => sharing::measure(redis),
        None => println!("Redis is not installed"),
    }
    on_both_databases(|name, database_url| measure(name, database_url, redis.as_ref()));
}

fn measure(name: &str, database_url: &str, redis: Option<&Redis>) {
    let (connections, rounds, round) = (load::CONNECTIONS, load::ROUNDS, load::ROUND);
    println!("{name}, {connections} connections, medians of {rounds} rounds of {round:?} each");
    let program = Program::start(database_url);
    let authorization = sign_up(&program.address);
    make_admin(database_url, EMAIL);
    let scope = post("/api-keys", &authorization, r#"{"scopes":["keys:verify"]}"#);
    let verifier_key = json_member(&send(&program.address, &scope), "api_key");
    rates::with_one_key(&program.address, &verifier_key);
    limits::in_memory(&program.address, &authorization);
    program.stop();
    if let Some(redis) = redis {
        limits::in_redis(database_url, &authorization, redis);
    }

    let keys = keys::generate(USED);
    let mut table = Table::open(database_url);
    table.add_keys(EMAIL, &keys);
    table.add_others(EMAIL, TABLE - USED);
    drop(table);
    let program = start::measure(database_url, &keys, &keys[..WORKING_SET]);
    program.stop();

    let program = Program::start(database_url);
    rates::with_many_keys(&program.address, &verifier_key, &keys[..WORKING_SET]);
    program.stop();
    limits::with_many_keys(database_url, &keys[..WORKING_SET], redis);
}

/// Prints a line of the report.
fn report(name: &str, figure: &str, target: &str, is_met: bool) {
    let verdict = if is_met { "met" } else { "missed" };
    println!("  {name:<66} {figure:<42} target {target}: {verdict}");
}

/// Prints requests per second and their ratio to those of `baseline`, with a target for the ratio.
fn report_ratio(name: &str, rate: Rate, baseline: &str, at_least: f64) {
    let (rate, ratio) = (rate.per_second, rate.of_first);
    let figure = format!("{rate:>8.0}/s, {ratio:.3} of {baseline}");
    report(
        name,
        &figure,
        &format!("at least {at_least}"),
        ratio >= at_least,
    );
}

/// Prints requests per second and their ratio to those of `baseline`, without a target.
fn print_ratio(name: &str, rate: Rate, baseline: &str) {
    let (rate, ratio) = (rate.per_second, rate.of_first);
    println!("  {name:<66} {rate:>8.0}/s, {ratio:.3} of {baseline}");
}
