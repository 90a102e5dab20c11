//! How a key or a token is shown, and what `/protected` makes of it.

use serde_json::json;

use crate::{on_both_databases, support::TestServer};

on_both_databases! {
    a_good_key_is_let_in_and_named,
    a_key_goes_in_either_header,
    a_key_in_a_query_or_cookie_is_ignored,
    two_different_credentials_are_refused,
    a_missing_credential_is_told_from_a_wrong_one,
    unknown_malformed_and_revoked_keys_all_answer_the_same,
    a_token_is_no_key_and_a_key_no_token,
    headers_that_are_no_text_are_wrong_credentials,
}

fn a_good_key_is_let_in_and_named(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let reply = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap())
        .get("/protected");
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    assert_eq!(answer["key"]["id"], key["id"]);
    assert_eq!(answer["key"]["environment"], "live");
    assert_eq!(answer["user_id"], ada.get("/auth/me").json()["id"]);
    assert!(answer["message"].is_string());
    assert!(!reply.body.contains("sk_live_"));
}

fn a_key_goes_in_either_header(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let key = key["api_key"].as_str().unwrap();
    let anyone = server.anonymous();
    for client in [
        anyone.with("x-api-key", key),
        anyone.with("X-API-KEY", key),
        anyone.with("authorization", &format!("Bearer {key}")),
        anyone.with("authorization", &format!("bearer  {key}")),
        anyone
            .with_key(key)
            .with("authorization", &format!("Bearer {key}")),
        anyone.with_key(key).with("x-api-key", key),
        // A proxy's, not ours.
        anyone
            .with_key(key)
            .with("authorization", "Basic dXNlcjpwYXNz"),
    ] {
        assert_eq!(client.get("/protected").status, 200);
    }
}

fn a_key_in_a_query_or_cookie_is_ignored(server: TestServer) {
    let key = server.user("ada@example.com").create_key();
    let key = key["api_key"].as_str().unwrap();
    let anyone = server.anonymous();
    for query in ["x-api-key", "api_key", "key", "access_token"] {
        let reply = anyone.get(&format!("/protected?{query}={key}"));
        reply.assert_problem(401, "missing_credentials");
    }
    let reply = anyone
        .with("cookie", &format!("x-api-key={key}"))
        .get("/protected");
    reply.assert_problem(401, "missing_credentials");
}

fn two_different_credentials_are_refused(server: TestServer) {
    let ada = server.user("ada@example.com");
    let one = ada.create_key()["api_key"].as_str().unwrap().to_owned();
    let other = ada.create_key()["api_key"].as_str().unwrap().to_owned();
    let anyone = server.anonymous();
    for client in [
        anyone.with_key(&one).with_token(&other),
        anyone.with_key(&one).with_key(&other),
        anyone.with_token(&one).with_token(&other),
        anyone.with_key(&one).with_token("not a key"),
        ada.with_key(&one),
    ] {
        client
            .get("/protected")
            .assert_problem(400, "ambiguous_credentials");
        client
            .get("/auth/me")
            .assert_problem(400, "ambiguous_credentials");
    }
}

fn a_missing_credential_is_told_from_a_wrong_one(server: TestServer) {
    let anyone = server.anonymous();
    for client in [
        anyone.clone(),
        anyone.with_key(""),
        anyone.with("authorization", "Bearer"),
        anyone.with("authorization", "Bearer "),
        anyone.with("authorization", "Basic dXNlcjpwYXNz"),
    ] {
        client
            .get("/protected")
            .assert_problem(401, "missing_credentials");
        client
            .get("/auth/me")
            .assert_problem(401, "missing_credentials");
    }
    let reply = anyone.get("/protected");
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"latchkey\"")
    );
}

fn unknown_malformed_and_revoked_keys_all_answer_the_same(server: TestServer) {
    let ada = server.user("ada@example.com");
    let revoked = ada.create_key();
    ada.delete(&format!("/api-keys/{}", revoked["id"].as_str().unwrap()));
    let revoked = revoked["api_key"].as_str().unwrap();
    let other = if revoked.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{other}", &revoked[..45]);
    // Right in form and checksum, and never issued.
    let unknown = latchkey::domain::api_key::PlainApiKey::generate(Default::default());
    let anyone = server.anonymous().with("x-request-id", "same");
    let answer = anyone.with_key(revoked).get("/protected");
    answer.assert_problem(401, "invalid_api_key");
    for key in [
        &mistyped,
        unknown.expose(),
        "sk_live_",
        "x",
        "null",
        &"k".repeat(4000),
    ] {
        let reply = anyone.with_key(key).get("/protected");
        assert_eq!(reply.body, answer.body, "{key}");
        assert_eq!(
            reply.header("www-authenticate"),
            answer.header("www-authenticate")
        );
    }
}

fn a_token_is_no_key_and_a_key_no_token(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let key = key["api_key"].as_str().unwrap();
    ada.get("/protected").assert_problem(401, "invalid_api_key");
    let anyone = server.anonymous();
    anyone
        .with_token(key)
        .get("/auth/me")
        .assert_problem(401, "invalid_token");
    anyone
        .with_key(key)
        .get("/auth/me")
        .assert_problem(401, "missing_credentials");

    let credentials = json!({"email": "ada@example.com", "password": crate::support::PASSWORD});
    let login = anyone.post_json("/auth/login", &credentials);
    let in_the_wrong_place = anyone.with_key(login.text("access_token"));
    in_the_wrong_place
        .get("/auth/me")
        .assert_problem(401, "missing_credentials");
}

fn headers_that_are_no_text_are_wrong_credentials(server: TestServer) {
    for (header, path, code) in [
        ("x-api-key: \u{fc}\r\n", "/protected", "invalid_api_key"),
        (
            "authorization: Bearer \u{fc}\r\n",
            "/auth/me",
            "missing_credentials",
        ),
    ] {
        let reply = crate::requests::raw(
            &server,
            &format!("GET {path} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n"),
        );
        assert!(reply.starts_with("HTTP/1.1 401"), "{reply}");
        assert!(reply.contains(code), "{reply}");
    }
}
