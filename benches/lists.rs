//! Latency of the last page of 100,000 keys of one user compared with the first page, and of filters that match no key.
//!
//! `cargo bench --bench lists`, on SQLite; on PostgreSQL too where `BENCH_DATABASE_URL` names an empty
//! database.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

#[expect(dead_code, reason = "shared with the other benchmarks")]
mod support;

use diesel::{Connection as _, PgConnection, RunQueryDsl as _, SqliteConnection, sql_query};
use support::{get, latencies_of, on_both_databases, p, sign_up, start};

const TIMES: usize = 300;

fn main() {
    on_both_databases(measure);
}

fn measure(name: &str, database_url: &str) {
    let address = start(database_url);
    let authorization = sign_up(&address);
    fill(database_url);
    let list = |query: &str| {
        let request = get(&format!("/api-keys?{query}"), &authorization);
        let latencies = latencies_of(&address, &request, TIMES);
        (p(50, &latencies), p(99, &latencies))
    };
    println!("{name}, 100,000 keys of one user, 100 per page, {TIMES} requests each");
    let first = list("limit=100");
    let last = list(&format!(
        "limit=100&cursor={}",
        last_cursor(&address, &authorization)
    ));
    println!("  first page      p50 {:?}, p99 {:?}", first.0, first.1);
    let ratio = last.0.as_secs_f64() / first.0.as_secs_f64();
    println!(
        "  last page       p50 {:?}, p99 {:?}   ratio of p50 {ratio:.2}",
        last.0, last.1
    );
    for query in ["status=revoked", "environment=test", "q=nothing"] {
        let (p50, p99) = list(query);
        println!("  ?{query:<17}p50 {p50:?}, p99 {p99:?}, without any match");
    }
}

/// Inserts 100,000 rows of keys with made-up digests.
fn fill(database_url: &str) {
    let columns =
        "id, lineage_id, user_id, name, name_folded, environment, prefix, digest, created_at";
    let rest = "'Key ' || n, 'key ' || n, 'live', 'sk_live_Exam'";
    let user = "(SELECT id FROM users WHERE email = 'ada@example.com')";
    let path = database_url.strip_prefix("sqlite://");
    let statement = match path {
        Some(_) => format!(
            "INSERT INTO api_keys ({columns}) WITH RECURSIVE numbers(n) AS
                 (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
             SELECT unhex(printf('%032x', n)), unhex(printf('%032x', n)), {user}, {rest}, unhex(printf('%064x', n)), n FROM numbers"
        ),
        None => format!(
            "INSERT INTO api_keys ({columns})
             SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), decode(lpad(to_hex(n), 32, '0'), 'hex'), {user}, {rest},
                 decode(lpad(to_hex(n), 64, '0'), 'hex'), n FROM generate_series(1, 100000) AS n"
        ),
    };
    for statement in [&*statement, "ANALYZE"] {
        let query = sql_query(statement);
        match path {
            Some(path) => query.execute(&mut SqliteConnection::establish(path).unwrap()),
            None => query.execute(&mut PgConnection::establish(database_url).unwrap()),
        }
        .unwrap();
    }
}

/// Returns the cursor of the last page.
fn last_cursor(address: &str, authorization: &str) -> String {
    let mut cursor = String::new();
    loop {
        let query = match &*cursor {
            "" => "limit=100".to_owned(),
            cursor => format!("limit=100&cursor={cursor}"),
        };
        let page = support::send(address, &get(&format!("/api-keys?{query}"), authorization));
        let next = page
            .split("cursor=")
            .nth(1)
            .and_then(|rest| rest.split('>').next());
        match next {
            Some(next) => cursor = next.to_owned(),
            None => return cursor,
        }
    }
}
