//! Retention of usage, and the roll-up of hours into days, which changes no total.

use std::{
    thread,
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, TimeDelta};
use serde_json::json;

use crate::{
    on_both_databases,
    quotas::{now, set_clock, set_clock_to_noon},
    rate_limits::use_key,
    support::{Client, TestServer, path_of},
    usage::{await_outcomes, await_usage, usage_at},
};

on_both_databases! {
    |config| {
        config.jwt_ttl_seconds = 30 * 24 * 3600;
        config.usage.hourly_retention_days = 3;
        config.usage.daily_retention_days = 10;
        config.usage.roll_up_interval = Duration::from_millis(50);
    };
    usage_hours_are_rolled_up_into_days_and_old_days_are_deleted,
    usage_counted_during_a_roll_up_is_counted_once,
    interrupted_roll_up_is_resumed,
}

fn counted(server: &TestServer, table: &str) -> i64 {
    let sum = format!("SELECT CAST(COALESCE(SUM(count), 0) AS TEXT) AS text FROM {table}");
    server.query(&sum)[0].parse().unwrap()
}

#[track_caller]
fn await_condition(description: &str, is_met: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_met() {
        assert!(
            Instant::now() < deadline,
            "condition is never met: {description}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn usage_hours_are_rolled_up_into_days_and_old_days_are_deleted(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let (key, idle) = (admin.create_key(), admin.create_key());
    set_clock_to_noon(&server);
    use_key(&server, &idle, 2);
    let first = now(&server);
    for _ in 0..3 {
        use_key(&server, &key, 4);
        set_clock(&server, now(&server) + TimeDelta::hours(1));
    }
    await_outcomes(&admin, "/admin/usage", &json!({"valid": 14}));
    assert_eq!(counted(&server, "usage_days"), 0);

    set_clock(&server, first + TimeDelta::days(4));
    await_condition("no hours are left", || counted(&server, "usage_hours") == 0);
    // Each use counts for its key, its owner and the service.
    assert_eq!(counted(&server, "usage_days"), 3 * 14);
    await_usage(&admin, &key, &json!({"valid": 12}));
    await_usage(&admin, &idle, &json!({"valid": 2}));
    await_outcomes(&admin, "/admin/usage", &json!({"valid": 14}));
    // A day with counts in both tables.
    use_key(&server, &key, 1);
    await_usage(&admin, &key, &json!({"valid": 13}));

    let from = first.to_rfc3339_opts(SecondsFormat::Secs, true);
    let path = format!("{}/usage?granularity=hour&from={from}", path_of(&key));
    let problem = admin.get(&path).assert_problem(422, "validation_failed");
    let message = problem["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("for 3 days"), "{message}");

    set_clock(&server, first + TimeDelta::days(11));
    await_condition("the first day is deleted", || {
        counted(&server, "usage_hours") == 0 && counted(&server, "usage_days") == 3
    });
    await_usage(&admin, &idle, &json!({}));
    await_usage(&admin, &key, &json!({"valid": 1}));
}

fn usage_counted_during_a_roll_up_is_counted_once(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let keys: Vec<_> = (0..5).map(|_| admin.create_key()).collect();
    set_clock_to_noon(&server);
    let use_keys = |client: &Client| {
        let mut uses = 0;
        for day in 0..12 {
            for key in &keys {
                use_key(&server, key, 3);
                uses += 3;
            }
            // Some counts arrive late, for hours that are being rolled up.
            if day % 2 == 1 {
                set_clock(&server, now(&server) + TimeDelta::days(1));
            }
            let all = usage_at(client, "/admin/usage");
            let total = all["total"].as_u64().unwrap();
            assert!(total <= uses, "{total} of {uses}");
        }
        uses
    };
    let uses = use_keys(&admin);
    await_outcomes(&admin, "/admin/usage", &json!({"valid": uses}));
    set_clock(&server, now(&server) + TimeDelta::days(4));
    await_condition("no hours are left", || counted(&server, "usage_hours") == 0);
    await_outcomes(&admin, "/admin/usage", &json!({"valid": uses}));
}

fn interrupted_roll_up_is_resumed(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let keys: Vec<_> = (0..3).map(|_| admin.create_key()).collect();
    set_clock_to_noon(&server);
    keys.iter().for_each(|key| use_key(&server, key, 1));
    await_outcomes(&admin, "/admin/usage", &json!({"valid": 3}));
    // The state that a killed roll-up leaves: all subjects up to the second key are done, and are skipped until the
    // next day.
    let cutoff = (now(&server) + TimeDelta::days(1)).timestamp_micros();
    let id = keys[1]["id"].as_str().unwrap().replace('-', "");
    let id = if server.database_url.starts_with("sqlite://") {
        format!("x'{id}'")
    } else {
        format!("'\\x{id}'::bytea")
    };
    server.execute(&format!(
        "UPDATE usage_rollup SET until = {cutoff}, subject_id = {id}"
    ));
    await_condition("the other subjects are done", || {
        let left = "SELECT outcome AS text FROM usage_hours";
        let service_owner_and_first_key = 3;
        server.query(left).len() == service_owner_and_first_key
    });
    await_outcomes(&admin, "/admin/usage", &json!({"valid": 3}));
    set_clock(&server, now(&server) + TimeDelta::days(5));
    await_condition("all subjects are done", || {
        counted(&server, "usage_hours") == 0
    });
    assert_eq!(counted(&server, "usage_days"), 9);
}
