//! How soon the service is there with a full table, and what it takes in memory.

use std::time::Duration;

use crate::{
    TABLE, report,
    support::{get, keys, load::Load, program::Program},
};

const STARTS: usize = 3;
/// Keys that there are not, asked for first.
const UNKNOWN: usize = 20_000;
const TARGET: Duration = Duration::from_secs(2);
/// What the settings promise of a key that is remembered.
const BYTES_PER_KEY: usize = 512;

/// Answers the program that was measured, which remembers all of the keys.
pub(super) fn measure(database_url: &str, keys: &[String], first: &[String]) -> Program {
    let mut slowest = Duration::ZERO;
    for _ in 1..STARTS {
        let program = Program::start(database_url);
        slowest = slowest.max(program.took);
        program.stop();
    }
    let program = Program::start(database_url);
    slowest = slowest.max(program.took);
    report(
        &format!("cold start, {TABLE} keys in the table, slowest of {STARTS}"),
        &format!("{slowest:?}"),
        &format!("less than {TARGET:?}"),
        slowest < TARGET,
    );

    let at_start = program.resident_bytes();
    let ask_with = |status, keys: &[String]| {
        let request = |key| get("/protected", &format!("x-api-key: {key}\r\n"));
        let requests = keys.iter().map(request).collect();
        Load::new(&program.address, status, requests).send_all();
        program.resident_bytes()
    };
    // So that what the database's connections take for themselves is no key's.
    let warm = ask_with(401, &keys::generate(UNKNOWN));
    let with_some = ask_with(200, first);
    let with_all = ask_with(200, keys);
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!(
        "  memory: {:.1} MB at start, {:.1} after {UNKNOWN} unknown keys, {:.1} after {}, {:.1} after {}",
        mb(at_start),
        mb(warm),
        mb(with_some),
        first.len(),
        mb(with_all),
        keys.len()
    );
    let each = with_all.saturating_sub(with_some) / (keys.len() - first.len());
    report(
        &format!("memory of a key, from {} to {}", first.len(), keys.len()),
        &format!("{each} bytes"),
        &format!("at most {BYTES_PER_KEY} bytes"),
        each <= BYTES_PER_KEY,
    );
    program
}
