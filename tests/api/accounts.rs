//! `/auth`: signup, login, the current account, password change and logout.

use std::thread;

use latchkey::config::Signup;
use serde_json::json;

use crate::{
    on_both_databases,
    support::{PASSWORD, TestServer},
};

on_both_databases! {
    signup_returns_the_new_account,
    email_in_another_case_or_unicode_form_names_the_same_account,
    hundred_concurrent_signups_with_one_email_create_one_account,
    password_outside_8_to_72_bytes_is_rejected,
    password_is_never_truncated,
    invalid_signup_reports_every_error_at_once,
    signup_with_a_role_is_rejected,
    login_with_json_returns_a_bearer_token,
    login_with_the_oauth_password_form_returns_a_bearer_token,
    login_with_unknown_email_or_wrong_password_gets_identical_responses,
    me_returns_the_account_of_the_token,
    password_change_invalidates_every_token_and_the_old_password,
    password_change_without_current_or_with_invalid_new_password_is_rejected,
    only_one_of_two_concurrent_password_changes_succeeds,
    logout_invalidates_every_token_of_the_account,
    login_after_a_bcrypt_cost_change_rehashes_the_password,
}

fn signup_returns_the_new_account(server: TestServer) {
    let reply = server.anonymous().post_json(
        "/auth/signup",
        &json!({"email": "Ada@example.com", "password": PASSWORD}),
    );
    assert_eq!(reply.status, 201);
    let account = reply.json();
    assert_eq!(account["email"], "Ada@example.com");
    assert_eq!(account["role"], "member");
    assert_eq!(
        uuid::Uuid::parse_str(account["id"].as_str().unwrap())
            .unwrap()
            .get_version_num(),
        7
    );
    let created_at = account["created_at"].as_str().unwrap();
    assert!(created_at.ends_with('Z'));
    assert!(chrono::DateTime::parse_from_rfc3339(created_at).is_ok());
    assert_eq!(account.as_object().unwrap().len(), 4);
}

fn email_in_another_case_or_unicode_form_names_the_same_account(server: TestServer) {
    let client = server.anonymous();
    let sign_up = |email: &str| {
        client.post_json(
            "/auth/signup",
            &json!({"email": email, "password": PASSWORD}),
        )
    };
    assert_eq!(sign_up("jos\u{e9}@example.com").status, 201);
    for variant in [
        "JOS\u{c9}@EXAMPLE.COM",
        "jose\u{301}@example.com",
        "\u{ff4a}os\u{e9}@example.com",
    ] {
        sign_up(variant).assert_problem(409, "email_taken");
        client.log_in(variant, PASSWORD);
    }
    assert_eq!(sign_up("jose@example.com").status, 201);
}

fn hundred_concurrent_signups_with_one_email_create_one_account(server: TestServer) {
    let client = server.anonymous();
    let threads: Vec<_> = (0..100)
        .map(|number| {
            let client = client.clone();
            let email = if number % 2 == 0 {
                "ada@example.com"
            } else {
                "ADA@example.com"
            };
            thread::spawn(move || {
                client.post_json(
                    "/auth/signup",
                    &json!({"email": email, "password": PASSWORD}),
                )
            })
        })
        .collect();
    let mut statuses: Vec<_> = threads
        .into_iter()
        .map(|t| t.join().unwrap().status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(
        statuses[1..].iter().all(|status| *status == 409),
        "{statuses:?}"
    );
    client.log_in("ada@example.com", PASSWORD);
}

fn password_outside_8_to_72_bytes_is_rejected(server: TestServer) {
    let client = server.anonymous();
    let sign_up = |number: usize, password: &str| {
        let email = format!("user{number}@example.com");
        client.post_json(
            "/auth/signup",
            &json!({"email": email, "password": password}),
        )
    };
    assert_eq!(sign_up(1, &"a".repeat(8)).status, 201);
    assert_eq!(sign_up(2, &"a".repeat(72)).status, 201);
    // 36 characters, 72 bytes.
    assert_eq!(sign_up(3, &"\u{e9}".repeat(36)).status, 201);
    for (number, password) in [
        (4, "a".repeat(7)),
        (5, "a".repeat(73)),
        (6, "\u{e9}".repeat(37)),
        (7, "with a\0zero".to_owned()),
    ] {
        let problem = sign_up(number, &password).assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], "/password");
    }
}

fn password_is_never_truncated(server: TestServer) {
    let client = server.anonymous();
    let password = "a".repeat(72);
    client.post_json(
        "/auth/signup",
        &json!({"email": "ada@example.com", "password": password}),
    );
    client.log_in("ada@example.com", &password);
    let longer = json!({"email": "ada@example.com", "password": format!("{password}b")});
    client
        .post_json("/auth/login", &longer)
        .assert_problem(422, "validation_failed");
    let shorter = json!({"email": "ada@example.com", "password": "a".repeat(71)});
    client
        .post_json("/auth/login", &shorter)
        .assert_problem(401, "invalid_credentials");
}

fn invalid_signup_reports_every_error_at_once(server: TestServer) {
    let body = json!({"email": "nobody", "password": "short"});
    let problem = server
        .anonymous()
        .post_json("/auth/signup", &body)
        .assert_problem(422, "validation_failed");
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["pointer"])
        .collect();
    assert_eq!(pointers, ["/email", "/password"]);
}

fn signup_with_a_role_is_rejected(server: TestServer) {
    let body = json!({"email": "eve@example.com", "password": PASSWORD, "role": "admin"});
    let problem = server
        .anonymous()
        .post_json("/auth/signup", &body)
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "/role");
}

fn login_with_json_returns_a_bearer_token(server: TestServer) {
    server.user("ada@example.com");
    let credentials = json!({"email": "ada@example.com", "password": PASSWORD});
    let reply = server.anonymous().post_json("/auth/login", &credentials);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let token = reply.json();
    assert_eq!(token["token_type"], "bearer");
    assert_eq!(token["expires_in"], 3600);
    let me = server
        .anonymous()
        .with_token(token["access_token"].as_str().unwrap());
    assert_eq!(me.get("/auth/me").json()["email"], "ada@example.com");
}

fn login_with_the_oauth_password_form_returns_a_bearer_token(server: TestServer) {
    server.user("ada+keys@example.com");
    let form = server
        .anonymous()
        .with(
            "content-type",
            "application/x-www-form-urlencoded; charset=UTF-8",
        )
        // Swagger UI sends this header without client credentials: `Og==` is `:`.
        .with("authorization", "Basic Og==");
    let valid_form = "grant_type=password&scope=&client_id=&username=ada%2Bkeys%40example.com\
                &password=correct+horse%20battery+staple";
    let reply = form.send("POST", "/auth/login", valid_form);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.text("token_type"), "bearer");

    let other_grant = valid_form.replace("grant_type=password", "grant_type=client_credentials");
    form.send("POST", "/auth/login", other_grant)
        .assert_problem(422, "validation_failed");
    let without_password = "grant_type=password&username=ada";
    let problem = form
        .send("POST", "/auth/login", without_password)
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "/password");
}

fn login_with_unknown_email_or_wrong_password_gets_identical_responses(server: TestServer) {
    server.user("ada@example.com");
    let client = server.anonymous().with("x-request-id", "same");
    let fail_to_log_in = |email: &str| {
        client.post_json("/auth/login", &json!({"email": email, "password": "wrong"}))
    };
    let wrong_password = fail_to_log_in("ada@example.com");
    wrong_password.assert_problem(401, "invalid_credentials");
    let long = "\u{fdfa}".repeat(15_000);
    for email in [
        "bob@example.com",
        "not an address",
        "",
        "a\0b@example.com",
        &long,
    ] {
        let unknown_email = fail_to_log_in(email);
        assert_eq!(unknown_email.body, wrong_password.body);
        assert_eq!(
            unknown_email.header("www-authenticate"),
            wrong_password.header("www-authenticate")
        );
    }
}

fn me_returns_the_account_of_the_token(server: TestServer) {
    let ada = server.user("ada@example.com");
    server.user("bob@example.com");
    let me = ada.get("/auth/me");
    assert_eq!(me.status, 200);
    assert_eq!(me.json()["email"], "ada@example.com");
    assert!(!me.body.contains("$2b$"));
}

fn password_change_invalidates_every_token_and_the_old_password(server: TestServer) {
    let first_session = server.user("ada@example.com");
    let second_session = server.anonymous().log_in("ada@example.com", PASSWORD);
    let change = json!({"current_password": PASSWORD, "new_password": "another password"});
    let reply = first_session.post_json("/auth/password", &change);
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));

    for client in [&first_session, &second_session] {
        client.get("/auth/me").assert_problem(401, "invalid_token");
    }
    let old_credentials = json!({"email": "ada@example.com", "password": PASSWORD});
    server
        .anonymous()
        .post_json("/auth/login", &old_credentials)
        .assert_problem(401, "invalid_credentials");
    let new_session = server
        .anonymous()
        .log_in("ada@example.com", "another password");
    assert_eq!(new_session.get("/auth/me").status, 200);
}

fn password_change_without_current_or_with_invalid_new_password_is_rejected(server: TestServer) {
    let ada = server.user("ada@example.com");
    let change = |current: &str, new: &str| {
        ada.post_json(
            "/auth/password",
            &json!({"current_password": current, "new_password": new}),
        )
    };
    change("wrong password", "another password").assert_problem(401, "invalid_credentials");
    change(PASSWORD, &"a".repeat(73)).assert_problem(422, "validation_failed");
    change(PASSWORD, "short").assert_problem(422, "validation_failed");
    assert_eq!(ada.get("/auth/me").status, 200);
}

fn only_one_of_two_concurrent_password_changes_succeeds(server: TestServer) {
    let ada = server.user("ada@example.com");
    let threads: Vec<_> = (0..2)
        .map(|number| {
            let ada = ada.clone();
            thread::spawn(move || {
                let new = format!("new password {number}");
                let change = json!({"current_password": PASSWORD, "new_password": new});
                (ada.post_json("/auth/password", &change).status, new)
            })
        })
        .collect();
    let results: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let winners: Vec<_> = results
        .iter()
        .filter(|(status, _)| *status == 204)
        .collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert!(
        results
            .iter()
            .all(|(status, _)| matches!(status, 204 | 401)),
        "{results:?}"
    );
    server.anonymous().log_in("ada@example.com", &winners[0].1);
}

fn logout_invalidates_every_token_of_the_account(server: TestServer) {
    let first_session = server.user("ada@example.com");
    let second_session = server.anonymous().log_in("ada@example.com", PASSWORD);
    let bob = server.user("bob@example.com");
    assert_eq!(first_session.post("/auth/logout").status, 204);
    first_session
        .get("/auth/me")
        .assert_problem(401, "invalid_token");
    second_session
        .get("/api-keys")
        .assert_problem(401, "invalid_token");
    assert_eq!(bob.get("/auth/me").status, 200);
    let new_session = server.anonymous().log_in("ada@example.com", PASSWORD);
    assert_eq!(new_session.get("/auth/me").status, 200);
}

fn login_after_a_bcrypt_cost_change_rehashes_the_password(mut server: TestServer) {
    const HASH: &str = "SELECT password_hash AS text FROM users";
    let ada = server.user("ada@example.com");
    assert!(server.query(HASH)[0].starts_with("$2b$04$"));
    server.stop();
    for (cost, prefix) in [(6, "$2b$06$"), (5, "$2b$05$")] {
        let restarted = TestServer::on(&server.database_url, |config| config.bcrypt_cost = cost);
        let wrong = json!({"email": "ada@example.com", "password": "wrong"});
        let reply = restarted.anonymous().post_json("/auth/login", &wrong);
        reply.assert_problem(401, "invalid_credentials");
        for _ in 0..2 {
            restarted.anonymous().log_in("ada@example.com", PASSWORD);
            assert!(server.query(HASH)[0].starts_with(prefix));
        }
        // The password is unchanged, so existing tokens stay valid.
        let token = ada.header("authorization");
        let ada = restarted.anonymous().with("authorization", &token);
        assert_eq!(ada.get("/auth/me").status, 200);
    }
}

mod closed_signup {
    use super::*;

    on_both_databases! {
        |config| config.signup = Signup::Closed;
        signup_is_denied_when_it_is_closed,
    }

    fn signup_is_denied_when_it_is_closed(server: TestServer) {
        // Denied before the body is read.
        let reply = server.anonymous().post("/auth/signup");
        reply.assert_problem(403, "permission_denied");
        let body = json!({"email": "ada@example.com", "password": PASSWORD});
        let reply = server.anonymous().post_json("/auth/signup", &body);
        reply.assert_problem(403, "permission_denied");
    }
}
