//! What browsers are told: headers against misuse on every answer, and which pages may call (CORS).

use serde_json::json;

use crate::{
    on_both_databases,
    support::{Client, Reply, TestServer},
};

const LISTED: &str = "https://app.example.com";
const UNLISTED: &str = "https://evil.example";

on_both_databases! {
    |config| config.cors.allowed_origins =
        "https://app.example.com,http://localhost:3000".parse().unwrap();
    every_answer_has_the_security_headers,
    a_listed_page_may_read_every_answer_and_no_other_may,
    a_preflight_of_a_listed_page_is_answered_before_any_credential,
    a_preflight_of_another_page_is_told_nothing,
    a_gateway_never_takes_a_preflight_for_leave,
}

#[test]
fn without_origins_no_page_may_call() {
    let server = TestServer::on_sqlite(|_| {});
    let page = server.anonymous().with("origin", LISTED);
    assert_no_cors(&page.get("/health/live"));
    assert_eq!(page.get("/health/live").header("vary"), None);
    let asked = page
        .with("access-control-request-method", "GET")
        .send("OPTIONS", "/protected", "");
    asked.assert_problem(405, "method_not_allowed");
    assert_no_cors(&asked);
}

fn every_answer_has_the_security_headers(server: TestServer) {
    let anyone = server.anonymous();
    let user = server.user("ada@example.com");
    let bad_json = anyone.with("content-type", "application/json");
    let large = "x".repeat(100_000);
    let foreign = anyone
        .with("origin", LISTED)
        .with("access-control-request-method", "GET");
    let answers = [
        (200, anyone.get("/health/live")),
        (200, anyone.get("/openapi.json")),
        (200, anyone.send("HEAD", "/health/live", "")),
        (201, user.post("/api-keys")),
        (204, user.post("/auth/logout")),
        (204, foreign.send("OPTIONS", "/api-keys", "")),
        (307, anyone.get("/")),
        (400, bad_json.send("POST", "/auth/login", "{")),
        (401, anyone.get("/protected")),
        (401, anyone.get("/forward-auth")),
        (404, anyone.get("/nowhere")),
        (405, anyone.delete("/health/live")),
        (413, bad_json.send("POST", "/auth/login", large)),
        (415, anyone.send("POST", "/auth/login", "{}")),
    ];
    for (status, answer) in answers {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_security_headers(&answer);
        assert_eq!(
            answer.header("content-security-policy"),
            Some("default-src 'none'; frame-ancestors 'none'"),
            "{answer:?}"
        );
    }
    for page in ["/docs/", "/docs/swagger-initializer.js", "/docs/nowhere.js"] {
        let answer = anyone.get(page);
        assert_security_headers(&answer);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[track_caller]
fn assert_security_headers(answer: &Reply) {
    for (name, value) in [
        ("x-content-type-options", Some("nosniff")),
        ("x-frame-options", Some("DENY")),
        ("referrer-policy", Some("no-referrer")),
        ("cross-origin-resource-policy", Some("same-origin")),
        // This server has no TLS of its own.
        ("strict-transport-security", None),
        ("server", None),
        ("x-powered-by", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}: {answer:?}");
    }
    for name in ["content-security-policy", "x-request-id"] {
        assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{answer:?}");
    }
}

fn a_listed_page_may_read_every_answer_and_no_other_may(server: TestServer) {
    let limits = json!({"rate_limit": {"limit": 1, "window_seconds": 3600}});
    let ada = server.user("ada@example.com");
    let caller = server.caller(&ada.create_key_with(&limits));
    let listed = |client: &Client| client.with("origin", LISTED);
    for (status, answer) in [
        (200, listed(&caller).get("/protected")),
        (429, listed(&caller).get("/protected")),
        (401, listed(&server.anonymous()).get("/protected")),
        (404, listed(&server.anonymous()).get("/nowhere")),
        (201, listed(&ada).post("/api-keys")),
        (
            200,
            ada.with("origin", "http://localhost:3000").get("/api-keys"),
        ),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        let allowed = answer.header("access-control-allow-origin").unwrap();
        assert!([LISTED, "http://localhost:3000"].contains(&allowed));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        let exposed: Vec<_> = exposed.split(", ").collect();
        for name in [
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "link",
            "location",
            "x-request-id",
            "www-authenticate",
        ] {
            assert!(exposed.contains(&name), "{name} of {exposed:?}");
        }
        assert_eq!(answer.header("vary"), Some("origin"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    for origin in [
        UNLISTED,
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "http://app.example.com",
        "null",
        "*",
        "",
    ] {
        let answer = ada.with("origin", origin).get("/api-keys");
        assert_eq!(answer.status, 200, "CORS is the browser's to enforce");
        assert_no_cors(&answer);
        assert_eq!(answer.header("vary"), Some("origin"), "caches must know");
    }
    // Nor is one page's answer another's.
    assert_eq!(ada.get("/api-keys").header("vary"), Some("origin"));
}

fn a_preflight_of_a_listed_page_is_answered_before_any_credential(server: TestServer) {
    let page = server.anonymous().with("origin", LISTED);
    for (path, method) in [
        ("/protected", "GET"),
        ("/api-keys/0199a3f0-0000-7000-8000-000000000000", "PATCH"),
        ("/admin/roles/support", "PUT"),
    ] {
        let answer = page
            .with("access-control-request-method", method)
            .with(
                "access-control-request-headers",
                "authorization,content-type,x-api-key,x-request-id",
            )
            .send("OPTIONS", path, "");
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert_eq!(answer.header("access-control-allow-origin"), Some(LISTED));
        let methods = answer.header("access-control-allow-methods").unwrap();
        assert!(methods.split(", ").any(|allowed| allowed == method));
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("authorization, content-type, traceparent, tracestate, x-api-key, x-request-id")
        );
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert!(answer.header("vary").unwrap().starts_with("origin, "));
        assert!(answer.header("x-request-id").is_some());
    }
    // Without the question it is a request like any other.
    page.send("OPTIONS", "/protected", "")
        .assert_problem(405, "method_not_allowed");
}

fn a_preflight_of_another_page_is_told_nothing(server: TestServer) {
    let page = server
        .anonymous()
        .with("origin", UNLISTED)
        .with("access-control-request-method", "GET");
    let answer = page.send("OPTIONS", "/protected", "");
    answer.assert_problem(405, "method_not_allowed");
    assert_no_cors(&answer);
    page.send("OPTIONS", "/nowhere", "")
        .assert_problem(404, "not_found");
}

/// It asks with the client's own method and headers, and any 2xx means yes.
fn a_gateway_never_takes_a_preflight_for_leave(server: TestServer) {
    let page = server
        .anonymous()
        .with("origin", LISTED)
        .with("access-control-request-method", "GET");
    for path in ["/forward-auth", "/forward-auth?scope=a&original=/orders"] {
        let answer = page.send("OPTIONS", path, "");
        answer.assert_problem(401, "missing_credentials");
        assert_no_cors(&answer);
    }
}

#[track_caller]
fn assert_no_cors(answer: &Reply) {
    let names = answer.headers.keys();
    let told: Vec<_> = names
        .filter(|name| name.as_str().starts_with("access-control-"))
        .collect();
    assert!(told.is_empty(), "{told:?}");
}
