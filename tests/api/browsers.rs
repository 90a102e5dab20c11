//! Browsers: security headers on every response, and the origins whose pages may call the service (CORS).

use serde_json::json;

use crate::{
    on_both_databases,
    support::{Client, Reply, TestServer},
};

const ALLOWED_ORIGIN: &str = "https://app.example.com";
const OTHER_ORIGIN: &str = "https://evil.example";

on_both_databases! {
    |config| config.cors.allowed_origins =
        "https://app.example.com,http://localhost:3000".parse().unwrap();
    every_response_has_the_security_headers,
    responses_are_readable_by_pages_of_allowed_origins_only,
    preflight_from_an_allowed_origin_needs_no_credential,
    preflight_from_another_origin_gets_no_cors_headers,
    preflight_to_forward_auth_is_rejected_without_a_credential,
}

#[test]
fn response_has_no_cors_headers_without_allowed_origins() {
    let server = TestServer::on_sqlite(|_| {});
    let page = server.anonymous().with("origin", ALLOWED_ORIGIN);
    assert_no_cors(&page.get("/health/live"));
    assert_eq!(page.get("/health/live").header("vary"), None);
    let preflight =
        page.with("access-control-request-method", "GET")
            .send("OPTIONS", "/protected", "");
    preflight.assert_problem(405, "method_not_allowed");
    assert_no_cors(&preflight);
}

fn every_response_has_the_security_headers(server: TestServer) {
    let anonymous = server.anonymous();
    let user = server.user("ada@example.com");
    let bad_json = anonymous.with("content-type", "application/json");
    let large = "x".repeat(100_000);
    let preflight = anonymous
        .with("origin", ALLOWED_ORIGIN)
        .with("access-control-request-method", "GET");
    let replies = [
        (200, anonymous.get("/health/live")),
        (200, anonymous.get("/openapi.json")),
        (200, anonymous.send("HEAD", "/health/live", "")),
        (201, user.post("/api-keys")),
        (204, user.post("/auth/logout")),
        (204, preflight.send("OPTIONS", "/api-keys", "")),
        (307, anonymous.get("/")),
        (400, bad_json.send("POST", "/auth/login", "{")),
        (401, anonymous.get("/protected")),
        (401, anonymous.get("/forward-auth")),
        (404, anonymous.get("/nowhere")),
        (405, anonymous.delete("/health/live")),
        (413, bad_json.send("POST", "/auth/login", large)),
        (415, anonymous.send("POST", "/auth/login", "{}")),
    ];
    for (status, reply) in replies {
        assert_eq!(reply.status, status, "{reply:?}");
        assert_security_headers(&reply);
        assert_eq!(
            reply.header("content-security-policy"),
            Some("default-src 'none'; frame-ancestors 'none'"),
            "{reply:?}"
        );
    }
    for page in ["/docs/", "/docs/swagger-initializer.js", "/docs/nowhere.js"] {
        let reply = anonymous.get(page);
        assert_security_headers(&reply);
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[track_caller]
fn assert_security_headers(reply: &Reply) {
    for (name, value) in [
        ("x-content-type-options", Some("nosniff")),
        ("x-frame-options", Some("DENY")),
        ("referrer-policy", Some("no-referrer")),
        ("cross-origin-resource-policy", Some("same-origin")),
        // The test server does not serve TLS.
        ("strict-transport-security", None),
        ("server", None),
        ("x-powered-by", None),
    ] {
        assert_eq!(reply.header(name), value, "{name}: {reply:?}");
    }
    for name in ["content-security-policy", "x-request-id"] {
        assert_eq!(reply.headers.get_all(name).iter().count(), 1, "{reply:?}");
    }
}

fn responses_are_readable_by_pages_of_allowed_origins_only(server: TestServer) {
    let limits = json!({"rate_limit": {"limit": 1, "window_seconds": 3600}});
    let ada = server.user("ada@example.com");
    let caller = server.caller(&ada.create_key_with(&limits));
    let from_allowed_origin = |client: &Client| client.with("origin", ALLOWED_ORIGIN);
    for (status, reply) in [
        (200, from_allowed_origin(&caller).get("/protected")),
        (429, from_allowed_origin(&caller).get("/protected")),
        (
            401,
            from_allowed_origin(&server.anonymous()).get("/protected"),
        ),
        (
            404,
            from_allowed_origin(&server.anonymous()).get("/nowhere"),
        ),
        (201, from_allowed_origin(&ada).post("/api-keys")),
        (
            200,
            ada.with("origin", "http://localhost:3000").get("/api-keys"),
        ),
    ] {
        assert_eq!(reply.status, status, "{reply:?}");
        let allowed = reply.header("access-control-allow-origin").unwrap();
        assert!([ALLOWED_ORIGIN, "http://localhost:3000"].contains(&allowed));
        let exposed = reply.header("access-control-expose-headers").unwrap();
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
        assert_eq!(reply.header("vary"), Some("origin"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    for origin in [
        OTHER_ORIGIN,
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "http://app.example.com",
        "null",
        "*",
        "",
    ] {
        let reply = ada.with("origin", origin).get("/api-keys");
        assert_eq!(
            reply.status, 200,
            "the browser enforces CORS, not the service"
        );
        assert_no_cors(&reply);
        assert_eq!(
            reply.header("vary"),
            Some("origin"),
            "caches must separate origins"
        );
    }
    // A request without an origin gets `vary`, too: a cache must not serve its response to a page.
    assert_eq!(ada.get("/api-keys").header("vary"), Some("origin"));
}

fn preflight_from_an_allowed_origin_needs_no_credential(server: TestServer) {
    let page = server.anonymous().with("origin", ALLOWED_ORIGIN);
    for (path, method) in [
        ("/protected", "GET"),
        ("/api-keys/0199a3f0-0000-7000-8000-000000000000", "PATCH"),
        ("/admin/roles/support", "PUT"),
    ] {
        let reply = page
            .with("access-control-request-method", method)
            .with(
                "access-control-request-headers",
                "authorization,content-type,x-api-key,x-request-id",
            )
            .send("OPTIONS", path, "");
        assert_eq!((reply.status, reply.body.as_str()), (204, ""));
        assert_eq!(
            reply.header("access-control-allow-origin"),
            Some(ALLOWED_ORIGIN)
        );
        let methods = reply.header("access-control-allow-methods").unwrap();
        assert!(methods.split(", ").any(|allowed| allowed == method));
        assert_eq!(
            reply.header("access-control-allow-headers"),
            Some("authorization, content-type, traceparent, tracestate, x-api-key, x-request-id")
        );
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert!(reply.header("vary").unwrap().starts_with("origin, "));
        assert!(reply.header("x-request-id").is_some());
    }
    // Without `access-control-request-method` it is an ordinary request.
    page.send("OPTIONS", "/protected", "")
        .assert_problem(405, "method_not_allowed");
}

fn preflight_from_another_origin_gets_no_cors_headers(server: TestServer) {
    let page = server
        .anonymous()
        .with("origin", OTHER_ORIGIN)
        .with("access-control-request-method", "GET");
    let reply = page.send("OPTIONS", "/protected", "");
    reply.assert_problem(405, "method_not_allowed");
    assert_no_cors(&reply);
    page.send("OPTIONS", "/nowhere", "")
        .assert_problem(404, "not_found");
}

/// A gateway calls with the client's own method and headers, and takes any 2xx as permission.
fn preflight_to_forward_auth_is_rejected_without_a_credential(server: TestServer) {
    let page = server
        .anonymous()
        .with("origin", ALLOWED_ORIGIN)
        .with("access-control-request-method", "GET");
    for path in ["/forward-auth", "/forward-auth?scope=a&original=/orders"] {
        let reply = page.send("OPTIONS", path, "");
        reply.assert_problem(401, "missing_credentials");
        assert_no_cors(&reply);
    }
}

#[track_caller]
fn assert_no_cors(reply: &Reply) {
    let names = reply.headers.keys();
    let cors_headers: Vec<_> = names
        .filter(|name| name.as_str().starts_with("access-control-"))
        .collect();
    assert!(cors_headers.is_empty(), "{cors_headers:?}");
}
