//! Credentials of a request: the headers that carry a key or a token, and the responses of `/protected`.

use serde_json::json;

use crate::{on_both_databases, support::TestServer};

on_both_databases! {
    valid_key_is_accepted_and_identified,
    key_is_accepted_in_x_api_key_and_authorization_headers,
    key_in_a_query_or_cookie_is_ignored,
    request_with_two_different_credentials_is_rejected,
    request_without_a_credential_gets_its_own_error_code,
    unknown_malformed_and_revoked_keys_get_identical_responses,
    token_is_rejected_as_key_and_key_as_token,
    credential_header_that_is_not_text_is_rejected,
}

fn valid_key_is_accepted_and_identified(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let reply = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap())
        .get("/protected");
    assert_eq!(reply.status, 200);
    let body = reply.json();
    assert_eq!(body["key"]["id"], key["id"]);
    assert_eq!(body["key"]["environment"], "live");
    assert_eq!(body["user_id"], ada.get("/auth/me").json()["id"]);
    assert!(body["message"].is_string());
    assert!(!reply.body.contains("sk_live_"));
}

fn key_is_accepted_in_x_api_key_and_authorization_headers(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let key = key["api_key"].as_str().unwrap();
    let anonymous = server.anonymous();
    for client in [
        anonymous.with("x-api-key", key),
        anonymous.with("X-API-KEY", key),
        anonymous.with("authorization", &format!("Bearer {key}")),
        anonymous.with("authorization", &format!("bearer  {key}")),
        anonymous
            .with_key(key)
            .with("authorization", &format!("Bearer {key}")),
        anonymous.with_key(key).with("x-api-key", key),
        // Credentials for a proxy in front of the service.
        anonymous
            .with_key(key)
            .with("authorization", "Basic dXNlcjpwYXNz"),
    ] {
        assert_eq!(client.get("/protected").status, 200);
    }
}

fn key_in_a_query_or_cookie_is_ignored(server: TestServer) {
    let key = server.user("ada@example.com").create_key();
    let key = key["api_key"].as_str().unwrap();
    let anonymous = server.anonymous();
    for query in ["x-api-key", "api_key", "key", "access_token"] {
        let reply = anonymous.get(&format!("/protected?{query}={key}"));
        reply.assert_problem(401, "missing_credentials");
    }
    let reply = anonymous
        .with("cookie", &format!("x-api-key={key}"))
        .get("/protected");
    reply.assert_problem(401, "missing_credentials");
}

fn request_with_two_different_credentials_is_rejected(server: TestServer) {
    let ada = server.user("ada@example.com");
    let first = ada.create_key()["api_key"].as_str().unwrap().to_owned();
    let second = ada.create_key()["api_key"].as_str().unwrap().to_owned();
    let anonymous = server.anonymous();
    for client in [
        anonymous.with_key(&first).with_token(&second),
        anonymous.with_key(&first).with_key(&second),
        anonymous.with_token(&first).with_token(&second),
        anonymous.with_key(&first).with_token("not a key"),
        ada.with_key(&first),
    ] {
        client
            .get("/protected")
            .assert_problem(400, "ambiguous_credentials");
        client
            .get("/auth/me")
            .assert_problem(400, "ambiguous_credentials");
    }
}

fn request_without_a_credential_gets_its_own_error_code(server: TestServer) {
    let anonymous = server.anonymous();
    for client in [
        anonymous.clone(),
        anonymous.with_key(""),
        anonymous.with("authorization", "Bearer"),
        anonymous.with("authorization", "Bearer "),
        anonymous.with("authorization", "Basic dXNlcjpwYXNz"),
    ] {
        client
            .get("/protected")
            .assert_problem(401, "missing_credentials");
        client
            .get("/auth/me")
            .assert_problem(401, "missing_credentials");
    }
    let reply = anonymous.get("/protected");
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"latchkey\"")
    );
}

fn unknown_malformed_and_revoked_keys_get_identical_responses(server: TestServer) {
    let ada = server.user("ada@example.com");
    let revoked = ada.create_key();
    ada.delete(&format!("/api-keys/{}", revoked["id"].as_str().unwrap()));
    let revoked = revoked["api_key"].as_str().unwrap();
    let last_digit = if revoked.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{last_digit}", &revoked[..45]);
    // The form and the checksum are valid, but the key was never issued.
    let unknown = latchkey::domain::api_key::PlainApiKey::generate(Default::default());
    let anonymous = server.anonymous().with("x-request-id", "same");
    let expected = anonymous.with_key(revoked).get("/protected");
    expected.assert_problem(401, "invalid_api_key");
    for key in [
        &mistyped,
        unknown.expose(),
        "sk_live_",
        "x",
        "null",
        &"k".repeat(4000),
    ] {
        let reply = anonymous.with_key(key).get("/protected");
        assert_eq!(reply.body, expected.body, "{key}");
        assert_eq!(
            reply.header("www-authenticate"),
            expected.header("www-authenticate")
        );
    }
}

fn token_is_rejected_as_key_and_key_as_token(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let key = key["api_key"].as_str().unwrap();
    ada.get("/protected").assert_problem(401, "invalid_api_key");
    let anonymous = server.anonymous();
    anonymous
        .with_token(key)
        .get("/auth/me")
        .assert_problem(401, "invalid_token");
    anonymous
        .with_key(key)
        .get("/auth/me")
        .assert_problem(401, "missing_credentials");

    let credentials = json!({"email": "ada@example.com", "password": crate::support::PASSWORD});
    let login = anonymous.post_json("/auth/login", &credentials);
    let token_as_key = anonymous.with_key(login.text("access_token"));
    token_as_key
        .get("/auth/me")
        .assert_problem(401, "missing_credentials");
}

fn credential_header_that_is_not_text_is_rejected(server: TestServer) {
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
