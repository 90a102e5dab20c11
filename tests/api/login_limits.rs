//! Throttling of failed logins, per account and per client address.

use std::{thread, time::Duration};

use serde_json::json;

use crate::{
    on_both_databases,
    support::{Client, PASSWORD, Reply, TestServer},
};

const MINUTE: Duration = Duration::from_secs(60);

fn try_password(client: &Client, email: &str, password: &str) -> Reply {
    client.post_json(
        "/auth/login",
        &json!({"email": email, "password": password}),
    )
}

on_both_databases! {
    login_after_ten_failures_is_throttled_even_with_the_right_password,
    failed_logins_are_counted_in_a_sliding_window_of_15_minutes,
    logins_to_an_unknown_account_are_throttled_like_a_known_one,
    login_after_hundred_failures_from_one_address_is_throttled,
    concurrent_failed_logins_do_not_exceed_the_limit,
    successful_logins_are_not_throttled,
    password_changes_with_a_wrong_current_password_are_throttled,
}

fn login_after_ten_failures_is_throttled_even_with_the_right_password(server: TestServer) {
    let ada = server.user("ada@example.com");
    let client = server.anonymous();
    for _ in 0..10 {
        let reply = try_password(&client, "ada@example.com", "wrong");
        reply.assert_problem(401, "invalid_credentials");
    }
    try_password(&client, "ADA@example.com", PASSWORD).assert_problem(429, "too_many_attempts");
    let reply = try_password(&client, "ada@example.com", PASSWORD);
    reply.assert_problem(429, "too_many_attempts");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((880..=900).contains(&wait), "{wait}");

    // Existing tokens stay valid, and other users can log in.
    assert_eq!(ada.get("/auth/me").status, 200);
    server.user("bob@example.com");

    server.advance(Duration::from_secs(wait));
    client.log_in("ada@example.com", PASSWORD);
}

fn failed_logins_are_counted_in_a_sliding_window_of_15_minutes(server: TestServer) {
    server.user("ada@example.com");
    let client = server.anonymous();
    for _ in 0..5 {
        try_password(&client, "ada@example.com", "wrong")
            .assert_problem(401, "invalid_credentials");
    }
    server.advance(10 * MINUTE);
    for _ in 0..5 {
        try_password(&client, "ada@example.com", "wrong")
            .assert_problem(401, "invalid_credentials");
    }
    try_password(&client, "ada@example.com", PASSWORD).assert_problem(429, "too_many_attempts");
    server.advance(5 * MINUTE);
    // The first five failures have left the window, the second five have not.
    for _ in 0..5 {
        try_password(&client, "ada@example.com", "wrong")
            .assert_problem(401, "invalid_credentials");
    }
    try_password(&client, "ada@example.com", PASSWORD).assert_problem(429, "too_many_attempts");
}

fn logins_to_an_unknown_account_are_throttled_like_a_known_one(server: TestServer) {
    let client = server.anonymous();
    for _ in 0..10 {
        let reply = try_password(&client, "nobody@example.com", "wrong");
        reply.assert_problem(401, "invalid_credentials");
    }
    let reply = try_password(&client, "nobody@example.com", "wrong");
    reply.assert_problem(429, "too_many_attempts");
}

fn login_after_hundred_failures_from_one_address_is_throttled(server: TestServer) {
    server.user("ada@example.com");
    let client = server.anonymous();
    for number in 0..100 {
        let reply = try_password(&client, &format!("user{number}@example.com"), "wrong");
        reply.assert_problem(401, "invalid_credentials");
    }
    try_password(&client, "ada@example.com", PASSWORD).assert_problem(429, "too_many_attempts");
    server.advance(15 * MINUTE);
    client.log_in("ada@example.com", PASSWORD);
}

fn concurrent_failed_logins_do_not_exceed_the_limit(server: TestServer) {
    server.user("ada@example.com");
    let client = server.anonymous();
    let threads: Vec<_> = (0..60)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || try_password(&client, "ada@example.com", "wrong").status)
        })
        .collect();
    let statuses: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let unthrottled = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!(unthrottled, 10, "{statuses:?}");
    assert!(
        statuses
            .iter()
            .all(|status| matches!(status, 401 | 429 | 503)),
        "{statuses:?}"
    );
}

fn successful_logins_are_not_throttled(server: TestServer) {
    server.user("ada@example.com");
    for _ in 0..15 {
        server.anonymous().log_in("ada@example.com", PASSWORD);
    }
}

fn password_changes_with_a_wrong_current_password_are_throttled(server: TestServer) {
    let ada = server.user("ada@example.com");
    let change = json!({"current_password": "wrong", "new_password": "another password"});
    for _ in 0..10 {
        ada.post_json("/auth/password", &change)
            .assert_problem(401, "invalid_credentials");
    }
    let correct = json!({"current_password": PASSWORD, "new_password": "another password"});
    ada.post_json("/auth/password", &correct)
        .assert_problem(429, "too_many_attempts");
}
