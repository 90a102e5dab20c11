//! How the databases find what a list asks for: by an index, on the last page as on the first.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::{Instrumentation, InstrumentationEvent, SimpleConnection as _},
    sql_query,
    sql_types::Text,
};

use crate::{
    on_both_databases,
    support::{Client, TestServer, path_of},
};

/// Every list that a connection of this process has asked for, as it was sent.
static SENT: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn known() -> MutexGuard<'static, Vec<String>> {
    SENT.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder;

impl Instrumentation for Recorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let sent = query.to_string();
            let sql = sent.split(" -- binds").next().unwrap_or_default();
            let mut known = known();
            if sql.contains("ORDER BY") && !known.iter().any(|known| known == sql) {
                known.push(sql.to_owned());
            }
        }
    }
}

/// The query that has all of these parts, as it was sent to this server's kind of database.
#[track_caller]
fn sent(server: &TestServer, parts: &[&str]) -> String {
    let found = find_sent(server, parts);
    found.unwrap_or_else(|| panic!("no query with {parts:?} in {:#?}", known()))
}

fn find_sent(server: &TestServer, parts: &[&str]) -> Option<String> {
    let known = known();
    let sqlite = server.database_url.starts_with("sqlite://");
    let fits = |sql: &&String| {
        let plain = sql.replace(['"', '`'], "").replace('$', "?");
        // What is written by hand is the same text for both.
        let is_of_this_kind = sql.contains("$1") != sqlite || !sql.contains(['"', '`']);
        is_of_this_kind && parts.iter().all(|part| plain.contains(part))
    };
    // The one with the fewest conditions.
    let found = known.iter().filter(fits).min_by_key(|sql| sql.len());
    found.cloned()
}

#[derive(QueryableByName)]
struct SqliteStep {
    #[diesel(sql_type = Text)]
    detail: String,
}

#[derive(QueryableByName)]
struct PostgresStep {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    step: String,
}

/// How the database goes about a query, whatever its parameters are.
fn plan(server: &TestServer, sql: &str) -> String {
    let steps: Vec<_> = match server.database_url.strip_prefix("sqlite://") {
        Some(file) => {
            let mut conn = SqliteConnection::establish(file).unwrap();
            let steps = sql_query(format!("EXPLAIN QUERY PLAN {sql}"))
                .load::<SqliteStep>(&mut conn)
                .unwrap();
            steps.into_iter().map(|step| step.detail).collect()
        }
        None => {
            let mut conn = PgConnection::establish(&server.database_url).unwrap();
            let parameters = (1..).take_while(|n| sql.contains(&format!("${n}"))).count();
            let nothing = vec!["NULL"; parameters].join(", ");
            conn.batch_execute(&format!(
                "SET plan_cache_mode = force_generic_plan; PREPARE list AS {sql}"
            ))
            .unwrap();
            let steps = sql_query(format!("EXPLAIN EXECUTE list({nothing})"))
                .load::<PostgresStep>(&mut conn)
                .unwrap();
            steps.into_iter().map(|step| step.step).collect()
        }
    };
    steps.join("\n")
}

/// Asserts that the query is answered from this index, in its order.
#[track_caller]
fn assert_served_by(server: &TestServer, index: &str, parts: &[&str]) {
    let sql = sent(server, parts);
    let plan = plan(server, &sql);
    println!("{sql}\n{plan}\n");
    assert!(plan.contains(index), "{sql}\n{plan}");
    for detour in [
        "Seq Scan on api_keys",
        "Seq Scan on audit_log",
        "Sort",
        "SCAN api_keys",
        "SCAN audit_log",
        "TEMP B-TREE",
    ] {
        assert!(!plan.contains(detour), "{detour}: {sql}\n{plan}");
    }
}

/// 100,000 keys and events of this person, and as many of others.
fn fill(server: &TestServer, owner: &str) {
    server.user("other@example.com");
    let owner = format!("(SELECT id FROM users WHERE email = '{owner}')");
    let other = "(SELECT id FROM users WHERE email = 'other@example.com')";
    let (numbers, id, digest, person) = match server.database_url.starts_with("sqlite://") {
        true => (
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)",
            "unhex(printf('%032x', n))",
            "unhex(printf('%064x', n))",
            "CASE n % 2 WHEN 0 THEN OWNER ELSE OTHER END",
        ),
        false => (
            "WITH numbers AS (SELECT n FROM generate_series(1, 200000) AS n)",
            "decode(lpad(to_hex(n), 32, '0'), 'hex')",
            "decode(lpad(to_hex(n), 64, '0'), 'hex')",
            "CASE n % 2 WHEN 0 THEN OWNER ELSE OTHER END",
        ),
    };
    let person = person.replace("OWNER", &owner).replace("OTHER", other);
    server.execute(&format!(
        "INSERT INTO api_keys (id, lineage_id, user_id, environment, prefix, digest, created_at) {numbers}
         SELECT {id}, {id}, {person}, 'live', 'sk_live_Exam', {digest}, n FROM numbers"
    ));
    server.execute(&format!(
        "INSERT INTO audit_log (id, at, actor_id, owner_id, action, target_type, target_id, details) {numbers}
         SELECT {id}, n, {person}, {person}, 'api_key.created', 'api_key', CAST(n AS TEXT), '{{}}' FROM numbers"
    ));
    server.execute("ANALYZE");
}

/// Asks for two pages.
fn page_through(client: &Client, list: &str) {
    let first = client.get(&format!("{list}?limit=100"));
    assert_eq!(first.status, 200, "{first:?}");
    let second = client.get(&first.next_page().unwrap());
    assert_eq!(second.json().as_array().unwrap().len(), 100);
}

on_both_databases! {
    |config| {
        diesel::connection::set_default_instrumentation(|| Some(Box::new(Recorder))).unwrap();
        config.usage.roll_up_interval = Duration::from_millis(50);
    };
    an_index_serves_every_page_of_a_persons_keys_and_events,
    an_index_serves_usage_and_its_roll_up,
}

fn an_index_serves_every_page_of_a_persons_keys_and_events(server: TestServer) {
    let ada = server.admin("ada@example.com");
    let bob = server.user("bob@example.com");
    fill(&server, "ada@example.com");
    bob.get("/audit-log");
    ada.get("/audit-log?target_id=x");
    page_through(&ada, "/api-keys");
    page_through(&ada, "/audit-log");
    page_through(&ada, "/admin/api-keys");

    let of_owner = |table: &str, column: &str| format!("({table}.{column}, {table}.id) < (?");
    assert_served_by(
        &server,
        "api_keys_user_id",
        &[&of_owner("api_keys", "user_id")],
    );
    let by_id = |table: &str| match server.database_url.starts_with("sqlite://") {
        true => format!("sqlite_autoindex_{table}_1"),
        false => format!("{table}_pkey"),
    };
    let next_page = ["FROM (api_keys", "WHERE (api_keys.id < ?"];
    assert_served_by(&server, &by_id("api_keys"), &next_page);
    for column in ["actor_id", "owner_id"] {
        let index = format!("audit_log_{column}");
        assert_served_by(&server, &index, &[&of_owner("audit_log", column)]);
    }
    let next_page = ["FROM audit_log", "WHERE (audit_log.id < ?"];
    assert_served_by(&server, &by_id("audit_log"), &next_page);
    let of_target = ["WHERE (audit_log.target_id = ?"];
    assert_served_by(&server, "audit_log_target_id", &of_target);
}

fn an_index_serves_usage_and_its_roll_up(server: TestServer) {
    let ada = server.admin("ada@example.com");
    let key = ada.create_key();
    let (numbers, id) = match server.database_url.starts_with("sqlite://") {
        true => (
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)",
            "unhex(printf('%032x', n % 100))",
        ),
        false => (
            "WITH numbers AS (SELECT n FROM generate_series(1, 100000) AS n)",
            "decode(lpad(to_hex(n % 100), 32, '0'), 'hex')",
        ),
    };
    for (table, start) in [("usage_hours", "hour_start"), ("usage_days", "day_start")] {
        server.execute(&format!(
            "INSERT INTO {table} (subject_id, {start}, outcome, count) {numbers}
             SELECT {id}, 4102444800000000 + (n / 100) * 3600000000, 'valid', 1 FROM numbers"
        ));
    }
    server.execute("ANALYZE");
    for granularity in ["hour", "day"] {
        let path = format!("{}/usage?granularity={granularity}", path_of(&key));
        assert_eq!(ada.get(&path).status, 200);
    }
    let parts = [
        ["FROM usage_hours", "usage_hours.hour_start >= ?", ""],
        ["FROM usage_days", "UNION ALL", "FROM usage_hours"],
        [
            "FROM usage_hours",
            "usage_hours.hour_start < ?",
            "usage_hours.subject_id = ?",
        ],
        ["FROM usage_hours", "usage_hours.subject_id > ?", ""],
        ["FROM usage_days", "usage_days.subject_id > ?", ""],
    ];
    // Not all of them before the first roll-up.
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_sent = |parts: &[&str; 3]| find_sent(&server, parts).is_some();
    while !parts.iter().all(is_sent) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    for parts in parts {
        let plan = plan(&server, &sent(&server, &parts));
        for detour in ["Seq Scan", "SCAN usage"] {
            assert!(!plan.contains(detour), "{parts:?}: {plan}");
        }
    }
}
