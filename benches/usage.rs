//! Latency of reading a key's usage of 90 days among that of many keys, and latency of requests during a roll-up.
//!
//! The roll-up covers one day of hours. The latencies during it are compared with those before it in the same run.
//!
//! `cargo bench --bench usage`, on SQLite; on PostgreSQL too where `BENCH_DATABASE_URL` names an empty
//! database. `BENCH_USAGE_KEYS` is the number of keys, each with a row for every hour. The default of 5,000 keys makes
//! 11 million rows; 100,000 keys take about 10 GB on SQLite.

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

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query,
    sql_types::BigInt,
};
use latchkey::domain::clock::Clock;
use support::{
    get, json_member, latencies_of, on_both_databases, p, post, send, sign_up, start_with,
};

const TIMES: usize = 200;
const DAYS: u64 = 90;

fn main() {
    on_both_databases(measure);
}

fn measure(name: &str, database_url: &str) {
    let keys = std::env::var("BENCH_USAGE_KEYS").map_or(5_000, |keys| keys.parse().unwrap());
    let clock = Clock::default();
    let address = start_with(database_url, clock.clone(), |config| {
        config.jwt_ttl_seconds = 30 * 24 * 3600;
        config.usage.roll_up_interval = Duration::from_secs(1);
    });
    let user = sign_up(&address);
    let created = send(&address, &post("/api-keys", &user, "{}"));
    let key = format!("x-api-key: {}\r\n", json_member(&created, "api_key"));
    let path = format!("/api-keys/{}/usage", json_member(&created, "id"));
    fill(database_url, keys, &json_member(&created, "id"));
    println!("{name}, {keys} keys with a row for each hour of {DAYS} days, {TIMES} requests each");

    let p50_and_p99 = |path: &str| {
        let latencies = latencies_of(&address, &get(path, &user), TIMES);
        (p(50, &latencies), p(99, &latencies))
    };
    let bare = p50_and_p99("/auth/me");
    println!("  GET /auth/me          p50 {:?}, p99 {:?}", bare.0, bare.1);
    let day = |days: u64| {
        let at = clock
            .now()
            .plus_seconds(-i64::try_from(days).unwrap() * 24 * 3600);
        serde_json::to_string(&at).unwrap().replace('"', "")
    };
    for (interval, query) in [
        ("24 hours", "granularity=hour".to_owned()),
        ("984 hours", format!("granularity=hour&from={}", day(40))),
        ("90 days", format!("granularity=day&from={}", day(DAYS - 1))),
    ] {
        let (p50, p99) = p50_and_p99(&format!("{path}?{query}"));
        let ratio = p50.as_secs_f64() / bare.0.as_secs_f64();
        println!("  usage, {interval:<14} p50 {p50:?}, p99 {p99:?}   ratio of p50 {ratio:.1}");
    }

    let requests = [
        ("a check", get("/protected", &key)),
        ("GET /auth/me", get("/auth/me", &user)),
        ("POST /api-keys", post("/api-keys", &user, "{}")),
    ];
    let round = || {
        requests
            .each_ref()
            .map(|(_, request)| latency_of(&address, request))
    };
    let mut before = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        before.push(round());
    }
    // After another day, the hours of the first day are past their retention and are rolled up.
    let rows = number(database_url, "SELECT COUNT(*) AS number FROM usage_days");
    clock.advance(Duration::from_secs(24 * 3600));
    let is_busy = "SELECT COUNT(*) AS number FROM usage_rollup WHERE subject_id IS NOT NULL";
    while number(database_url, is_busy) == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let (started, mut during) = (Instant::now(), Vec::new());
    while number(database_url, is_busy) == 1 {
        during.extend((0..20).map(|_| round()));
    }
    let duration = started.elapsed();
    let rows = number(database_url, "SELECT COUNT(*) AS number FROM usage_days") - rows;
    println!(
        "  rolled up hours into {rows} rows of days in {duration:.1?}; latencies before and meanwhile:"
    );
    for (index, (name, _)) in requests.iter().enumerate() {
        let latencies_in =
            |rounds: &[[Duration; 3]]| rounds.iter().map(|round| round[index]).collect::<Vec<_>>();
        let (before, during) = (latencies_in(&before), latencies_in(&during));
        for percent in [50, 99] {
            let (before, during) = (p(percent, &before), p(percent, &during));
            let ratio = during.as_secs_f64() / before.as_secs_f64();
            println!("  {name:<21} p{percent} {before:?}, then {during:?}   ratio {ratio:.2}");
        }
    }
}

fn latency_of(address: &str, request: &str) -> Duration {
    let mut connection = support::Connection::open(address);
    let started = Instant::now();
    assert!(connection.send(request).starts_with("HTTP/1.1 20"));
    started.elapsed()
}

/// Inserts the usage of this many made-up keys, and of the key `id`.
fn fill(database_url: &str, keys: usize, id: &str) {
    let id = id.replace('-', "");
    let hours = DAYS * 24;
    let start = "(now.day - 90 * 86400000000 + hours.n * 3600000000)";
    let statement = if database_url.starts_with("sqlite://") {
        format!(
            "INSERT INTO usage_hours (subject_id, hour_start, outcome, count)
             WITH RECURSIVE keys(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM keys WHERE n < {keys}),
                  hours(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM hours WHERE n < {hours} - 1),
                  now(day) AS (SELECT unixepoch() / 86400 * 86400000000),
                  ids(id) AS (SELECT unhex(printf('01%030x', n)) FROM keys UNION ALL SELECT x'{id}')
             SELECT ids.id, {start}, 'valid', 7 FROM ids CROSS JOIN now CROSS JOIN hours"
        )
    } else {
        format!(
            "INSERT INTO usage_hours (subject_id, hour_start, outcome, count)
             SELECT ids.id, {start}, 'valid', 7
             FROM (SELECT decode('01' || lpad(to_hex(n), 30, '0'), 'hex') AS id FROM generate_series(1, {keys}) AS n
                   UNION ALL SELECT decode('{id}', 'hex')) AS ids,
                  (SELECT (extract(epoch FROM now())::bigint / 86400) * 86400000000 AS day) AS now,
                  generate_series(0, {hours} - 1) AS hours(n)"
        )
    };
    execute(database_url, &statement);
    execute(database_url, "ANALYZE");
}

fn execute(database_url: &str, statement: &str) {
    let query = sql_query(statement);
    match database_url.strip_prefix("sqlite://") {
        Some(path) => query.execute(&mut SqliteConnection::establish(path).unwrap()),
        None => query.execute(&mut PgConnection::establish(database_url).unwrap()),
    }
    .unwrap();
}

fn number(database_url: &str, query: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let query = sql_query(query);
    let row: Row = match database_url.strip_prefix("sqlite://") {
        Some(path) => {
            let mut conn = SqliteConnection::establish(path).unwrap();
            sql_query("PRAGMA busy_timeout = 10000")
                .execute(&mut conn)
                .unwrap();
            query.get_result(&mut conn)
        }
        None => query.get_result(&mut PgConnection::establish(database_url).unwrap()),
    }
    .unwrap();
    row.number
}
