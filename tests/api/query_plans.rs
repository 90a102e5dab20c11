//! Query plans of lists and of usage: every page, first or last, is served by an index.

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

/// SQL text of every list query that a connection of this process has sent.
static RECORDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn recorded() -> MutexGuard<'static, Vec<String>> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder;

impl Instrumentation for Recorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let text = query.to_string();
            let sql = text.split(" -- binds").next().unwrap_or_default();
            let mut recorded = recorded();
            if sql.contains("ORDER BY") && !recorded.iter().any(|other| other == sql) {
                recorded.push(sql.to_owned());
            }
        }
    }
}

/// Returns the query that has all of these parts, as it was sent to this server's kind of database.
#[track_caller]
fn recorded_query(server: &TestServer, parts: &[&str]) -> String {
    let found = find_recorded(server, parts);
    found.unwrap_or_else(|| panic!("no query with {parts:?} in {:#?}", recorded()))
}

fn find_recorded(server: &TestServer, parts: &[&str]) -> Option<String> {
    let recorded = recorded();
    let sqlite = server.database_url.starts_with("sqlite://");
    let fits = |sql: &&String| {
        let plain = sql.replace(['"', '`'], "").replace('$', "?");
        // Queries written by hand have the same text for both databases.
        let is_of_this_kind = sql.contains("$1") != sqlite || !sql.contains(['"', '`']);
        is_of_this_kind && parts.iter().all(|part| plain.contains(part))
    };
    // The shortest match has the fewest conditions.
    let found = recorded.iter().filter(fits).min_by_key(|sql| sql.len());
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

/// Returns the plan of a query, independent of the values of its parameters.
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

/// Asserts that this index serves the query, in the order of the index.
#[track_caller]
fn assert_served_by(server: &TestServer, index: &str, parts: &[&str]) {
    let sql = recorded_query(server, parts);
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

/// Inserts 100,000 keys and events of this user, and as many of another one.
fn fill(server: &TestServer, owner: &str) {
    server.user("other@example.com");
    let owner = format!("(SELECT id FROM users WHERE email = '{owner}')");
    let other = "(SELECT id FROM users WHERE email = 'other@example.com')";
    let (numbers, id, digest) = if server.database_url.starts_with("sqlite://") {
        (
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)",
            "unhex(printf('%032x', n))",
            "unhex(printf('%064x', n))",
        )
    } else {
        (
            "WITH numbers AS (SELECT n FROM generate_series(1, 200000) AS n)",
            "decode(lpad(to_hex(n), 32, '0'), 'hex')",
            "decode(lpad(to_hex(n), 64, '0'), 'hex')",
        )
    };
    let user = "CASE n % 2 WHEN 0 THEN OWNER ELSE OTHER END";
    let user = user.replace("OWNER", &owner).replace("OTHER", other);
    server.execute(&format!(
        "INSERT INTO api_keys (id, lineage_id, user_id, environment, prefix, digest, created_at) {numbers}
         SELECT {id}, {id}, {user}, 'live', 'sk_live_Exam', {digest}, n FROM numbers"
    ));
    server.execute(&format!(
        "INSERT INTO audit_log (id, at, actor_id, owner_id, action, target_type, target_id, details) {numbers}
         SELECT {id}, n, {user}, {user}, 'api_key.created', 'api_key', CAST(n AS TEXT), '{{}}' FROM numbers"
    ));
    server.execute("ANALYZE");
}

/// Requests the first two pages of a list.
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
    every_page_of_a_users_keys_and_events_is_served_by_an_index,
    usage_queries_and_the_roll_up_are_served_by_an_index,
}

fn every_page_of_a_users_keys_and_events_is_served_by_an_index(server: TestServer) {
    let ada = server.admin("ada@example.com");
    let bob = server.user("bob@example.com");
    fill(&server, "ada@example.com");
    bob.get("/audit-log");
    ada.get("/audit-log?target_id=x");
    page_through(&ada, "/api-keys");
    page_through(&ada, "/audit-log");
    page_through(&ada, "/admin/api-keys");

    let owner_cursor = |table: &str, column: &str| format!("({table}.{column}, {table}.id) < (?");
    assert_served_by(
        &server,
        "api_keys_user_id",
        &[&owner_cursor("api_keys", "user_id")],
    );
    let primary_key = |table: &str| {
        if server.database_url.starts_with("sqlite://") {
            format!("sqlite_autoindex_{table}_1")
        } else {
            format!("{table}_pkey")
        }
    };
    let next_page = ["FROM (api_keys", "WHERE (api_keys.id < ?"];
    assert_served_by(&server, &primary_key("api_keys"), &next_page);
    for column in ["actor_id", "owner_id"] {
        let index = format!("audit_log_{column}");
        assert_served_by(&server, &index, &[&owner_cursor("audit_log", column)]);
    }
    let next_page = ["FROM audit_log", "WHERE (audit_log.id < ?"];
    assert_served_by(&server, &primary_key("audit_log"), &next_page);
    let target_filter = ["WHERE (audit_log.target_id = ?"];
    assert_served_by(&server, "audit_log_target_id", &target_filter);
}

fn usage_queries_and_the_roll_up_are_served_by_an_index(server: TestServer) {
    let ada = server.admin("ada@example.com");
    let key = ada.create_key();
    let (numbers, id) = if server.database_url.starts_with("sqlite://") {
        (
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)",
            "unhex(printf('%032x', n % 100))",
        )
    } else {
        (
            "WITH numbers AS (SELECT n FROM generate_series(1, 100000) AS n)",
            "decode(lpad(to_hex(n % 100), 32, '0'), 'hex')",
        )
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
    // Some of these queries are sent by the first roll-up only.
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_recorded = |parts: &[&str; 3]| find_recorded(&server, parts).is_some();
    while !parts.iter().all(is_recorded) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    for parts in parts {
        let plan = plan(&server, &recorded_query(&server, &parts));
        for detour in ["Seq Scan", "SCAN usage"] {
            assert!(!plan.contains(detour), "{parts:?}: {plan}");
        }
    }
}
