//! Errors in the contract's table that no other test file covers, and the order of the checks.

use serde_json::json;

use crate::{
    on_both_databases,
    support::{PASSWORD, TestServer},
};

on_both_databases! {
    unknown_path_is_not_found,
    unsupported_method_is_not_allowed,
    head_request_gets_the_status_of_get_without_a_body,
    malformed_json_is_400_and_json_of_the_wrong_shape_is_422,
    invalid_value_is_not_repeated_in_the_response,
    body_without_a_supported_media_type_is_rejected,
    body_over_64_kib_is_rejected,
    chunked_body_over_64_kib_is_rejected,
    media_type_is_checked_before_the_size_of_the_body,
    garbled_chunked_body_is_rejected,
    credential_is_checked_before_the_body_and_the_query,
}

fn unknown_path_is_not_found(server: TestServer) {
    let anonymous = server.anonymous();
    for path in [
        "/nothing",
        "/auth",
        "/auth/",
        "/auth/me/",
        "/api-keys/",
        "/docs/nothing.js",
        "/%00",
        "/..%2f..%2fetc/passwd",
    ] {
        anonymous.get(path).assert_problem(404, "not_found");
    }
}

fn unsupported_method_is_not_allowed(server: TestServer) {
    let anonymous = server.anonymous();
    for (method, path, allow) in [
        ("PUT", "/protected", "GET, HEAD"),
        ("GET", "/auth/signup", "POST"),
        ("DELETE", "/api-keys", "GET, HEAD, POST"),
        ("POST", "/api-keys/1", "GET, HEAD, PATCH, DELETE"),
        ("POST", "/docs/", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("PATCH", "/openapi.json", "GET, HEAD"),
    ] {
        let reply = anonymous.send(method, path, "");
        reply.assert_problem(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
}

fn head_request_gets_the_status_of_get_without_a_body(server: TestServer) {
    let key = server.user("ada@example.com").create_key();
    let client = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    for path in ["/health/live", "/protected", "/docs/"] {
        let reply = client.send("HEAD", path, "");
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{path}");
    }
    server
        .anonymous()
        .send("HEAD", "/auth/signup", "")
        .headers
        .get("allow")
        .unwrap();
    assert_eq!(
        server.anonymous().send("HEAD", "/protected", "").status,
        401
    );
}

fn malformed_json_is_400_and_json_of_the_wrong_shape_is_422(server: TestServer) {
    let json = server.anonymous().with("content-type", "application/json");
    for body in [
        "",
        "{",
        "{\"email\":",
        "nonsense",
        "{} {}",
        "{\"email\": \"\u{0}\"}",
        "[1,",
    ] {
        json.send("POST", "/auth/signup", body)
            .assert_problem(400, "invalid_json");
    }
    json.send("POST", "/auth/signup", b"{\"email\": \"\xff\"}")
        .assert_problem(400, "invalid_json");
    json.send("POST", "/auth/signup", "[".repeat(10_000))
        .assert_problem(400, "invalid_json");
    for (body, pointer) in [
        ("{}", "/email"),
        ("[]", ""),
        ("null", ""),
        ("1e400", ""),
        ("{\"email\": 1, \"password\": \"x\"}", "/email"),
        ("{\"email\": null, \"password\": \"x\"}", "/email"),
        ("{\"email\": \"a@b.c\"}", "/password"),
        ("{\"email\": \"a@b.c\", \"email\": \"d@e.f\"}", "/email"),
        ("{\"a/b~c\": 1}", "/a~1b~0c"),
    ] {
        let reply = json.send("POST", "/auth/signup", body);
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
}

fn invalid_value_is_not_repeated_in_the_response(server: TestServer) {
    let json = server.anonymous().with("content-type", "application/json");
    for body in [
        r#"{"email": "a@b.c", "password": 8675309123}"#,
        r#"{"email": "a@b.c", "password": {"8675309123": 1}}"#,
        r#"{"email": "8675309123", "password": "8675309123"}"#,
    ] {
        let reply = json.send("POST", "/auth/signup", body);
        assert!(matches!(reply.status, 422 | 400), "{reply:?}");
        assert!(!reply.body.contains("8675309123"), "{reply:?}");
    }
}

fn body_without_a_supported_media_type_is_rejected(server: TestServer) {
    let body = json!({"email": "ada@example.com", "password": PASSWORD}).to_string();
    for media_type in [
        None,
        Some("text/plain"),
        Some("application/xml"),
        Some("application/jsonp"),
        Some("nonsense"),
    ] {
        let client = server.anonymous();
        let client = media_type.map_or(client.clone(), |name| client.with("content-type", name));
        for path in ["/auth/signup", "/auth/login"] {
            client
                .send("POST", path, &body)
                .assert_problem(415, "unsupported_media_type");
        }
    }
    let form = server
        .anonymous()
        .with("content-type", "application/x-www-form-urlencoded");
    form.send("POST", "/auth/signup", "email=a")
        .assert_problem(415, "unsupported_media_type");
    for media_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let client = server.anonymous().with("content-type", media_type);
        let reply = client.send("POST", "/auth/signup", "{}");
        reply.assert_problem(422, "validation_failed");
    }
}

fn body_over_64_kib_is_rejected(server: TestServer) {
    let json = server.anonymous().with("content-type", "application/json");
    let body = |size: usize| {
        let frame = r#"{"email":"","password":"12345678"}"#;
        frame.replacen(
            "\"\"",
            &format!("\"{}\"", "a".repeat(size - frame.len())),
            1,
        )
    };
    json.send("POST", "/auth/signup", body(64 * 1024))
        .assert_problem(422, "validation_failed");
    json.send("POST", "/auth/signup", body(64 * 1024 + 1))
        .assert_problem(413, "payload_too_large");
    json.send("POST", "/auth/login", body(200_000))
        .assert_problem(413, "payload_too_large");
    let ada = server
        .user("ada@example.com")
        .with("content-type", "application/json");
    ada.send("POST", "/api-keys", body(64 * 1024 + 1))
        .assert_problem(413, "payload_too_large");
}

fn chunked_body_over_64_kib_is_rejected(server: TestServer) {
    let chunk = "1000\r\n".to_owned() + &"a".repeat(0x1000) + "\r\n";
    let request = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        .to_owned()
        + &chunk.repeat(17)
        + "0\r\n\r\n";
    let reply = crate::requests::raw(&server, &request);
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    assert!(reply.contains("payload_too_large"), "{reply}");
}

fn credential_is_checked_before_the_body_and_the_query(server: TestServer) {
    let anonymous = server.anonymous();
    anonymous
        .with("content-type", "text/plain")
        .send("POST", "/api-keys", "{")
        .assert_problem(401, "missing_credentials");
    anonymous
        .get("/api-keys?cursor=broken")
        .assert_problem(401, "missing_credentials");
    // A well-signed token whose session has ended: only the database shows that it is invalid.
    let ada = server.user("ada@example.com");
    assert_eq!(ada.post("/auth/logout").status, 204);
    ada.with("content-type", "text/plain")
        .send("POST", "/api-keys", "{")
        .assert_problem(401, "invalid_token");
    ada.get("/api-keys?cursor=broken")
        .assert_problem(401, "invalid_token");
    ada.get("/api-keys/1").assert_problem(401, "invalid_token");
}

fn media_type_is_checked_before_the_size_of_the_body(server: TestServer) {
    let ada = server
        .user("ada@example.com")
        .with("content-type", "text/plain");
    for path in ["/api-keys", "/auth/password"] {
        let reply = ada.send("POST", path, "a".repeat(100_000));
        reply.assert_problem(415, "unsupported_media_type");
    }
    ada.send("POST", "/api-keys", "x")
        .assert_problem(415, "unsupported_media_type");
    // An empty body needs no media type.
    assert_eq!(ada.send("POST", "/api-keys", "").status, 201);
}

fn garbled_chunked_body_is_rejected(server: TestServer) {
    let header_section = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                          transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let reply = crate::requests::raw(
        &server,
        &format!("{header_section}2\r\n{{}}\r\nnonsense\r\n"),
    );
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(reply.contains("invalid_request"), "{reply}");
}
