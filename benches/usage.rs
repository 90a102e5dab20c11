//! What a key's usage of 90 days costs to read among that of many, and what a request pays while a day of
//! hours is rolled up, beside the same before, in the same run.
//!
//! `cargo bench --bench usage`, on SQLite; on PostgreSQL too where `BENCH_DATABASE_URL` names an empty
//! database. `BENCH_USAGE_KEYS` says how many keys there are, each with a row for every hour: 5,000 of them,
//! if it is not set, make 11 million rows, and 100,000 some 10 GB on SQLite.

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

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query,
    sql_types::BigInt,
};
use latchkey::domain::clock::Clock;
use support::{ask, get, latencies_of, member, on_both_databases, p, post, sign_up, start_with};

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
    let created = ask(&address, &post("/api-keys", &user, "{}"));
    let key = format!("x-api-key: {}\r\n", member(&created, "api_key"));
    let path = format!("/api-keys/{}/usage", member(&created, "id"));
    fill(database_url, keys, &member(&created, "id"));
    println!("{name}, {keys} keys with a row for each hour of {DAYS} days, {TIMES} times each");

    let p50_and_p99 = |path: &str| {
        let took = latencies_of(&address, &get(path, &user), TIMES);
        (p(50, &took), p(99, &took))
    };
    let bare = p50_and_p99("/auth/me");
    println!("  GET /auth/me          p50 {:?}, p99 {:?}", bare.0, bare.1);
    let day = |days: u64| {
        let at = clock
            .now()
            .plus_seconds(-i64::try_from(days).unwrap() * 24 * 3600);
        serde_json::to_string(&at).unwrap().replace('"', "")
    };
    for (what, query) in [
        ("24 hours", "granularity=hour".to_owned()),
        ("984 hours", format!("granularity=hour&from={}", day(40))),
        ("90 days", format!("granularity=day&from={}", day(DAYS - 1))),
    ] {
        let took = p50_and_p99(&format!("{path}?{query}"));
        let ratio = took.0.as_secs_f64() / bare.0.as_secs_f64();
        println!(
            "  usage, {what:<14} p50 {:?}, p99 {:?}   ratio of p50 {ratio:.1}",
            took.0, took.1
        );
    }

    let requests = [
        ("a check", get("/protected", &key)),
        ("GET /auth/me", get("/auth/me", &user)),
        ("POST /api-keys", post("/api-keys", &user, "{}")),
    ];
    let round = || {
        requests
            .each_ref()
            .map(|(_, request)| time_of(&address, request))
    };
    let mut before = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        before.push(round());
    }
    // The first of the days is none of those any more whose hours are kept.
    let rows = number(database_url, "SELECT COUNT(*) AS number FROM usage_days");
    clock.advance(Duration::from_secs(24 * 3600));
    let is_busy = "SELECT COUNT(*) AS number FROM usage_rollup WHERE subject_id IS NOT NULL";
    while number(database_url, is_busy) == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let (began, mut during) = (Instant::now(), Vec::new());
    while number(database_url, is_busy) == 1 {
        during.extend((0..20).map(|_| round()));
    }
    let took = began.elapsed();
    let rows = number(database_url, "SELECT COUNT(*) AS number FROM usage_days") - rows;
    println!("  rolled up to {rows} rows of days in {took:.1?}; meanwhile:");
    for (place, (what, _)) in requests.iter().enumerate() {
        let of =
            |rounds: &[[Duration; 3]]| rounds.iter().map(|round| round[place]).collect::<Vec<_>>();
        let (before, during) = (of(&before), of(&during));
        for percent in [50, 99] {
            let (before, during) = (p(percent, &before), p(percent, &during));
            let ratio = during.as_secs_f64() / before.as_secs_f64();
            println!("  {what:<21} p{percent} {before:?}, then {during:?}   ratio {ratio:.2}");
        }
    }
}

fn time_of(address: &str, request: &str) -> Duration {
    let mut connection = support::Connection::open(address);
    let asked = Instant::now();
    assert!(connection.ask(request).starts_with("HTTP/1.1 20"));
    asked.elapsed()
}

/// Usage of this many keys, and of one that somebody has.
fn fill(database_url: &str, keys: usize, id: &str) {
    let id = id.replace('-', "");
    let hours = DAYS * 24;
    let start = "(now.day - 90 * 86400000000 + hours.n * 3600000000)";
    let statement = match database_url.starts_with("sqlite://") {
        true => format!(
            "INSERT INTO usage_hours (subject_id, hour_start, outcome, count)
             WITH RECURSIVE keys(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM keys WHERE n < {keys}),
                  hours(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM hours WHERE n < {hours} - 1),
                  now(day) AS (SELECT unixepoch() / 86400 * 86400000000),
                  ids(id) AS (SELECT unhex(printf('01%030x', n)) FROM keys UNION ALL SELECT x'{id}')
             SELECT ids.id, {start}, 'valid', 7 FROM ids CROSS JOIN now CROSS JOIN hours"
        ),
        false => format!(
            "INSERT INTO usage_hours (subject_id, hour_start, outcome, count)
             SELECT ids.id, {start}, 'valid', 7
             FROM (SELECT decode('01' || lpad(to_hex(n), 30, '0'), 'hex') AS id FROM generate_series(1, {keys}) AS n
                   UNION ALL SELECT decode('{id}', 'hex')) AS ids,
                  (SELECT (extract(epoch FROM now())::bigint / 86400) * 86400000000 AS day) AS now,
                  generate_series(0, {hours} - 1) AS hours(n)"
        ),
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
