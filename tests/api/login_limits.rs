//! How often somebody may be wrong about a password.

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
    the_eleventh_attempt_for_an_account_is_refused_with_the_right_password_too,
    any_fifteen_minutes_count_not_those_of_a_clock,
    an_unknown_account_is_refused_in_the_same_way,
    the_hundred_and_first_attempt_from_an_address_is_refused,
    many_attempts_at_once_are_no_more_than_the_limit,
    logging_in_rightly_ever_so_often_is_no_failure,
    guessing_the_current_password_with_a_stolen_token_is_limited_too,
}

fn the_eleventh_attempt_for_an_account_is_refused_with_the_right_password_too(server: TestServer) {
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

    // A token that is there already goes on working, and others log in.
    assert_eq!(ada.get("/auth/me").status, 200);
    server.user("bob@example.com");

    server.advance(Duration::from_secs(wait));
    client.log_in("ada@example.com", PASSWORD);
}

fn any_fifteen_minutes_count_not_those_of_a_clock(server: TestServer) {
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
    // The first five are forgotten, the second are not.
    for _ in 0..5 {
        try_password(&client, "ada@example.com", "wrong")
            .assert_problem(401, "invalid_credentials");
    }
    try_password(&client, "ada@example.com", PASSWORD).assert_problem(429, "too_many_attempts");
}

fn an_unknown_account_is_refused_in_the_same_way(server: TestServer) {
    let client = server.anonymous();
    for _ in 0..10 {
        let reply = try_password(&client, "nobody@example.com", "wrong");
        reply.assert_problem(401, "invalid_credentials");
    }
    let reply = try_password(&client, "nobody@example.com", "wrong");
    reply.assert_problem(429, "too_many_attempts");
}

fn the_hundred_and_first_attempt_from_an_address_is_refused(server: TestServer) {
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

fn many_attempts_at_once_are_no_more_than_the_limit(server: TestServer) {
    server.user("ada@example.com");
    let client = server.anonymous();
    let threads: Vec<_> = (0..60)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || try_password(&client, "ada@example.com", "wrong").status)
        })
        .collect();
    let statuses: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let tried = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!(tried, 10, "{statuses:?}");
    assert!(
        statuses
            .iter()
            .all(|status| matches!(status, 401 | 429 | 503)),
        "{statuses:?}"
    );
}

fn logging_in_rightly_ever_so_often_is_no_failure(server: TestServer) {
    server.user("ada@example.com");
    for _ in 0..15 {
        server.anonymous().log_in("ada@example.com", PASSWORD);
    }
}

fn guessing_the_current_password_with_a_stolen_token_is_limited_too(server: TestServer) {
    let ada = server.user("ada@example.com");
    let change = json!({"current_password": "wrong", "new_password": "another password"});
    for _ in 0..10 {
        ada.post_json("/auth/password", &change)
            .assert_problem(401, "invalid_credentials");
    }
    let right = json!({"current_password": PASSWORD, "new_password": "another password"});
    ada.post_json("/auth/password", &right)
        .assert_problem(429, "too_many_attempts");
}
