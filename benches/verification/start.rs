//! Start time and memory of the service with a full table.

use std::time::Duration;

use crate::{
    TABLE, report,
    support::{get, keys, load::Load, program::Program},
};

const STARTS: usize = 3;
/// Number of requests with unknown keys that warm the service up.
const UNKNOWN: usize = 20_000;
/// Maximum time of a start.
const TARGET: Duration = Duration::from_secs(2);
/// Maximum memory per cached key in bytes, as the documentation of the settings promises.
const BYTES_PER_KEY: usize = 512;

/// Measures start time and memory. Returns the running program, which has all of the keys in its cache.
pub(super) fn measure(database_url: &str, keys: &[String], first: &[String]) -> Program {
    let mut slowest = Duration::ZERO;
    for _ in 1..STARTS {
        let program = Program::start(database_url);
        slowest = slowest.max(program.start_time);
        program.stop();
    }
    let program = Program::start(database_url);
    slowest = slowest.max(program.start_time);
    report(
        &format!("cold start, {TABLE} keys in the table, slowest of {STARTS}"),
        &format!("{slowest:?}"),
        &format!("less than {TARGET:?}"),
        slowest < TARGET,
    );

    let at_start = program.resident_bytes();
    let send_all = |status, keys: &[String]| {
        let request = |key| get("/protected", &format!("x-api-key: {key}\r\n"));
        let requests = keys.iter().map(request).collect();
        Load::new(&program.address, status, requests).send_all();
        program.resident_bytes()
    };
    // The warm-up allocates the memory of the database connections, so that it is not attributed to the keys.
    let warm = send_all(401, &keys::generate(UNKNOWN));
    let with_some = send_all(200, first);
    let with_all = send_all(200, keys);
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!(
        "  memory: {:.1} MB at start, {:.1} after {UNKNOWN} unknown keys, {:.1} after {} keys, {:.1} after {}",
        mb(at_start),
        mb(warm),
        mb(with_some),
        first.len(),
        mb(with_all),
        keys.len()
    );
    let each = with_all.saturating_sub(with_some) / (keys.len() - first.len());
    report(
        &format!("memory per key, from {} to {}", first.len(), keys.len()),
        &format!("{each} bytes"),
        &format!("at most {BYTES_PER_KEY} bytes"),
        each <= BYTES_PER_KEY,
    );
    program
}
