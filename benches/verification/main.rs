//! What checking a key costs over HTTP, with limits and without, beside a bare route and beside nginx in
//! the same run; how soon the service is there with a full table, and what a key takes in memory; and how
//! much of a rate limit three instances let through.
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
#[expect(dead_code, reason = "made for the other benchmarks as well")]
#[path = "../support/mod.rs"]
mod support;

use support::{
    EMAIL, ask, keys,
    keys::Table,
    load::{self, Rate},
    member, on_both_databases, post,
    program::{Program, make_admin},
    redis::Redis,
    sign_up,
};

/// Keys in the table.
const TABLE: usize = 1_000_000;
/// Of which this many are used at all.
const USED: usize = 100_000;
/// Of which requests come with these, each with another one.
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
    let asking_key = member(&ask(&program.address, &scope), "api_key");
    rates::with_one_key(&program.address, &asking_key);
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
    rates::with_many_keys(&program.address, &asking_key, &keys[..WORKING_SET]);
    program.stop();
    limits::with_many_keys(database_url, &keys[..WORKING_SET], redis);
}

/// A line of the report. `good` tells whether the figure is what it should be.
fn report(what: &str, figure: &str, target: &str, good: bool) {
    let verdict = if good { "met" } else { "missed" };
    println!("  {what:<66} {figure:<42} target {target}: {verdict}");
}

/// A line of the report about requests per second beside others.
fn report_ratio(what: &str, rate: Rate, of: &str, at_least: f64) {
    let (rate, ratio) = (rate.per_second, rate.of_first);
    let figure = format!("{rate:>8.0}/s, {ratio:.3} of {of}");
    report(
        what,
        &figure,
        &format!("at least {at_least}"),
        ratio >= at_least,
    );
}

/// The same where nothing is promised.
fn state_ratio(what: &str, rate: Rate, of: &str) {
    let (rate, ratio) = (rate.per_second, rate.of_first);
    println!("  {what:<66} {rate:>8.0}/s, {ratio:.3} of {of}");
}
