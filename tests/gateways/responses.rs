//! Behaviour of a gateway on each possible response of latchkey, and on none. A stand-in sends the responses.

use serde_json::{Value, json};

use crate::{
    gateway::{Gateway, Recipe},
    server::{Response, Server},
    support::Reply,
};

behind_each_gateway! {
    application_gets_the_identity_and_not_the_key,
    identity_headers_of_the_client_are_not_passed_on,
    connection_header_cannot_remove_identity_headers,
    forward_auth_query_has_only_the_scopes_of_the_path,
    forward_auth_request_has_the_client_address_and_no_body,
    request_body_reaches_the_application_whole,
    error_responses_of_the_application_pass_through,
    rate_limited_response_keeps_the_limit_headers,
    unavailable_response_keeps_retry_after,
    request_with_two_different_credentials_gets_400,
    unexpected_response_of_latchkey_denies_access,
    unreachable_latchkey_denies_access,
    hanging_latchkey_denies_access,
    connections_to_latchkey_are_reused,
}

/// Gateway with a stand-in for latchkey and an application behind it.
pub struct Guarded {
    pub gateway: Gateway,
    pub latchkey: Server,
    pub application: Server,
}

impl Guarded {
    pub fn by(recipe: &Recipe, response: Response) -> Self {
        let (latchkey, application) = (Server::always(response), Server::application());
        Self {
            gateway: recipe.start(latchkey.address, application.address),
            latchkey,
            application,
        }
    }

    /// Sends a request and returns the response, after checking that the application got no request.
    #[track_caller]
    pub fn rejection(&self) -> Reply {
        let reply = self.gateway.client().with_key("sk").get("/");
        assert_eq!(reply.header("x-application"), None, "{reply:?}");
        assert_eq!(self.application.requests().len(), 0, "{reply:?}");
        reply
    }
}

pub fn allow(scopes: &str) -> Response {
    let headers = [
        ("x-api-key-id", "the-key"),
        ("x-api-key-scopes", scopes),
        ("x-user-id", "the-user"),
    ];
    Response {
        body: String::new(),
        ..response(200, &headers)
    }
}

pub fn response(status: u16, headers: &[(&'static str, &str)]) -> Response {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Response {
        status,
        headers: headers.collect(),
        body: format!(r#"{{"status":{status}}}"#),
    }
}

/// Returns the headers that the application received.
#[track_caller]
pub fn headers(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["headers"].clone()
}

fn application_gets_the_identity_and_not_the_key(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, allow("orders:read invoices:*"));
    let client = guarded.gateway.client();
    for client in [client.with_key("sk"), client.with_token("sk")] {
        let headers = headers(&client.get("/"));
        assert_eq!(headers["x-api-key-id"], json!(["the-key"]));
        assert_eq!(
            headers["x-api-key-scopes"],
            json!(["orders:read invoices:*"])
        );
        assert_eq!(headers["x-user-id"], json!(["the-user"]));
        assert_eq!(headers["x-api-key"], Value::Null);
        assert_eq!(headers["authorization"], Value::Null);
    }
}

fn identity_headers_of_the_client_are_not_passed_on(recipe: &Recipe) {
    // Latchkey never sends the second response. A header that is missing there must not come from the client.
    for response in [allow(""), response(200, &[])] {
        let guarded = Guarded::by(recipe, response);
        let claims = [
            "X-Api-Key-Id",
            "x-api-key-scopes",
            "X-USER-ID",
            "X_Api_Key_Id",
            "X-Api_Key-Scopes",
            "X_USER-ID",
        ];
        let client = guarded.gateway.client().with_key("sk");
        let client = claims.iter().fold(client, |c, name| c.with(name, "forged"));
        let headers = headers(&client.get("/"));
        assert!(!headers.to_string().contains("forged"), "{headers}");
    }
    let guarded = Guarded::by(recipe, allow(""));
    let client = guarded.gateway.client().with_key("sk");
    let headers = headers(&client.with("x-api-key-scopes", "*").get("/"));
    let scopes = &headers["x-api-key-scopes"];
    assert!(*scopes == Value::Null || *scopes == json!([""]), "{scopes}");
}

fn connection_header_cannot_remove_identity_headers(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, allow("orders:read"));
    let names = "x-user-id, x-api-key-id, x-api-key-scopes, x-forwarded-for";
    let client = guarded.gateway.client().with_key("sk");
    let headers = headers(&client.with("connection", names).get("/"));
    assert_eq!(headers["x-api-key-id"], json!(["the-key"]));
    assert_eq!(headers["x-api-key-scopes"], json!(["orders:read"]));
    assert_eq!(headers["x-user-id"], json!(["the-user"]));
    let forwarded = &guarded.latchkey.requests()[0];
    assert_eq!(forwarded.header("x-forwarded-for"), Some("127.0.0.1"));
}

fn forward_auth_query_has_only_the_scopes_of_the_path(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, allow(""));
    let client = guarded.gateway.client().with_key("sk");
    let (none, orders) = ("/forward-auth", "/forward-auth?scope=orders:read");
    for (target, expected) in [
        ("/", none),
        ("/?scope=*&original=", none),
        ("/invoices?scope", none),
        ("/orders", orders),
        ("/orders/", orders),
        ("/orders/7?scope=x&original=y", orders),
        ("//orders/7", orders),
        ("/invoices/../orders", orders),
        ("/%6frders/7", orders),
    ] {
        assert_eq!(client.get(target).json()["target"], target);
        let last = guarded.latchkey.requests().pop().expect("a request");
        assert_eq!(last.target.trim_end_matches('?'), expected, "{target}");
    }
}

fn forward_auth_request_has_the_client_address_and_no_body(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, allow(""));
    let client = guarded.gateway.client().with_key("sk");
    let client = client.with("x-forwarded-for", "192.0.2.1");
    let client = client.with("x-forwarded-for", "192.0.2.2");
    assert_eq!(client.send("POST", "/", "a body").status, 200);
    let forwarded = &guarded.latchkey.requests()[0];
    let addresses = forwarded
        .headers
        .iter()
        .filter(|h| h.0 == "x-forwarded-for");
    let addresses: Vec<&str> = addresses.map(|header| header.1.as_str()).collect();
    assert_eq!(addresses, ["127.0.0.1"]);
    assert_eq!(forwarded.body, b"", "{forwarded:?}");
    assert_eq!(forwarded.header("x-api-key"), Some("sk"));
}

fn request_body_reaches_the_application_whole(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, allow(""));
    // Larger than latchkey accepts, and larger than nginx buffers in memory.
    let body: String = (0..40_000).map(|n| format!("{n} ")).collect();
    let client = guarded.gateway.client().with_key("sk");
    let reply = client.send("POST", "/orders", &body);
    assert_eq!(reply.status, 200);
    let received = reply.json();
    assert_eq!(received["method"], "POST");
    assert!(received["body"] == body.as_str(), "{} bytes", body.len());
}

fn error_responses_of_the_application_pass_through(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, allow(""));
    let client = guarded.gateway.client().with_key("sk");
    for status in [400, 401, 403, 404, 422, 429, 500, 502, 503] {
        let target = format!("/status/{status}");
        let reply = client.get(&target);
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("x-application"), Some("yes"), "{reply:?}");
        assert_eq!(reply.json()["target"], target);
    }
}

fn rate_limited_response_keeps_the_limit_headers(recipe: &Recipe) {
    let headers = [
        ("retry-after", "12"),
        ("ratelimit", r#""key";r=0;t=12"#),
        ("ratelimit-policy", r#""key";q=100;w=60"#),
    ];
    let reply = Guarded::by(recipe, response(429, &headers)).rejection();
    assert_eq!(reply.status, 429, "{reply:?}");
    for (name, value) in headers {
        assert_eq!(reply.header(name), Some(value), "{reply:?}");
    }
}

fn unavailable_response_keeps_retry_after(recipe: &Recipe) {
    let reply = Guarded::by(recipe, response(503, &[("retry-after", "7")])).rejection();
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("7"), "{reply:?}");
}

fn request_with_two_different_credentials_gets_400(recipe: &Recipe) {
    let reply = Guarded::by(recipe, response(400, &[])).rejection();
    assert_eq!(reply.status, 400, "{reply:?}");
}

fn unexpected_response_of_latchkey_denies_access(recipe: &Recipe) {
    for status in [500, 502] {
        let reply = Guarded::by(recipe, response(status, &[])).rejection();
        assert!(reply.status >= 500, "{reply:?}");
    }
    // These statuses come from another program than latchkey, or from a wrong request of the recipe.
    for status in [302, 404, 422] {
        let reply = Guarded::by(recipe, response(status, &[])).rejection();
        assert!(reply.status >= 300, "{reply:?}");
    }
}

fn unreachable_latchkey_denies_access(recipe: &Recipe) {
    // The port is bound, so that no other program gets it, but not listening, so that connections are refused.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    closed.bind(&address.into()).unwrap();
    let unreachable = closed.local_addr().unwrap().as_socket().unwrap();
    let application = Server::application();
    let gateway = recipe.start(unreachable, application.address);
    for _ in 0..3 {
        let reply = gateway.client().with_key("sk").get("/");
        assert_eq!(reply.status, recipe.unreachable, "{reply:?}");
    }
    assert_eq!(application.requests().len(), 0);
}

fn hanging_latchkey_denies_access(recipe: &Recipe) {
    // Connections get no further than the accept queue of the listener.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let application = Server::application();
    let shorten_timeout = |recipe: String| {
        assert!(recipe.contains(" 10s"), "no timeout");
        recipe.replace(" 10s", " 1s")
    };
    let latchkey = listener.local_addr().unwrap();
    let gateway = recipe.start_with(latchkey, application.address, shorten_timeout);
    let reply = gateway.client().with_key("sk").get("/");
    assert_eq!(reply.status, recipe.too_slow, "{reply:?}");
    assert_eq!(application.requests().len(), 0);
}

fn connections_to_latchkey_are_reused(recipe: &Recipe) {
    for (response, status) in [(allow(""), 200), (response(401, &[]), 401)] {
        let guarded = Guarded::by(recipe, response);
        let client = guarded.gateway.client().with_key("sk");
        for _ in 0..5 {
            assert_eq!(client.get("/").status, status);
        }
        assert_eq!(guarded.latchkey.requests().len(), 5);
        assert_eq!(guarded.latchkey.connections(), 1, "{status}");
    }
}
