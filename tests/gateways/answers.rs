//! What becomes of each answer that latchkey may give, or not give. A stand-in gives them here.

use serde_json::{Value, json};

use crate::{
    gateway::{Gateway, Recipe},
    server::{Answer, Server},
    support::Reply,
};

behind_each_gateway! {
    the_application_gets_who_it_is_and_not_the_key,
    what_the_client_claims_is_not_believed,
    headers_cannot_be_taken_away,
    latchkey_is_asked_for_the_scopes_of_the_path_and_no_others,
    latchkey_gets_the_clients_address_and_no_body,
    a_body_arrives_whole,
    the_applications_own_errors_pass_through,
    too_many_requests_come_with_the_limits,
    when_nobody_can_tell_it_says_when_to_come_again,
    two_different_credentials_are_the_clients_fault,
    a_fault_of_latchkey_lets_nobody_in,
    without_latchkey_nobody_gets_in,
    a_latchkey_that_hangs_lets_nobody_in,
    connections_to_latchkey_are_kept,
}

/// A gateway between a stand-in for latchkey and an application.
pub struct Guarded {
    pub gateway: Gateway,
    pub latchkey: Server,
    pub application: Server,
}

impl Guarded {
    pub fn by(recipe: &Recipe, answer: Answer) -> Self {
        let (latchkey, application) = (Server::always(answer), Server::application());
        Self {
            gateway: recipe.start(latchkey.address, application.address),
            latchkey,
            application,
        }
    }

    /// What the client gets, who must not have reached the application.
    #[track_caller]
    pub fn refusal(&self) -> Reply {
        let reply = self.gateway.client().with_key("sk").get("/");
        assert_eq!(reply.header("x-application"), None, "{reply:?}");
        assert_eq!(self.application.requests().len(), 0, "{reply:?}");
        reply
    }
}

pub fn yes(scopes: &str) -> Answer {
    let headers = [
        ("x-api-key-id", "the-key"),
        ("x-api-key-scopes", scopes),
        ("x-user-id", "the-user"),
    ];
    Answer {
        body: String::new(),
        ..answer(200, &headers)
    }
}

pub fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Answer {
        status,
        headers: headers.collect(),
        body: format!(r#"{{"status":{status}}}"#),
    }
}

/// The headers that the application got.
#[track_caller]
pub fn headers(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["headers"].clone()
}

fn the_application_gets_who_it_is_and_not_the_key(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, yes("orders:read invoices:*"));
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

fn what_the_client_claims_is_not_believed(recipe: &Recipe) {
    // The second answer is one that latchkey does not give; what is missing must not be the client's.
    for answer in [yes(""), answer(200, &[])] {
        let guarded = Guarded::by(recipe, answer);
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
    let guarded = Guarded::by(recipe, yes(""));
    let client = guarded.gateway.client().with_key("sk");
    let headers = headers(&client.with("x-api-key-scopes", "*").get("/"));
    let scopes = &headers["x-api-key-scopes"];
    assert!(*scopes == Value::Null || *scopes == json!([""]), "{scopes}");
}

fn headers_cannot_be_taken_away(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, yes("orders:read"));
    let names = "x-user-id, x-api-key-id, x-api-key-scopes, x-forwarded-for";
    let client = guarded.gateway.client().with_key("sk");
    let headers = headers(&client.with("connection", names).get("/"));
    assert_eq!(headers["x-api-key-id"], json!(["the-key"]));
    assert_eq!(headers["x-api-key-scopes"], json!(["orders:read"]));
    assert_eq!(headers["x-user-id"], json!(["the-user"]));
    let asked = &guarded.latchkey.requests()[0];
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
}

fn latchkey_is_asked_for_the_scopes_of_the_path_and_no_others(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, yes(""));
    let client = guarded.gateway.client().with_key("sk");
    let (none, orders) = ("/forward-auth", "/forward-auth?scope=orders:read");
    for (target, asked) in [
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
        let last = guarded.latchkey.requests().pop().expect("a question");
        assert_eq!(last.target.trim_end_matches('?'), asked, "{target}");
    }
}

fn latchkey_gets_the_clients_address_and_no_body(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, yes(""));
    let client = guarded.gateway.client().with_key("sk");
    let client = client.with("x-forwarded-for", "192.0.2.1");
    let client = client.with("x-forwarded-for", "192.0.2.2");
    assert_eq!(client.send("POST", "/", "a body").status, 200);
    let asked = &guarded.latchkey.requests()[0];
    let addresses = asked.headers.iter().filter(|h| h.0 == "x-forwarded-for");
    let addresses: Vec<&str> = addresses.map(|header| header.1.as_str()).collect();
    assert_eq!(addresses, ["127.0.0.1"]);
    assert_eq!(asked.body, b"", "{asked:?}");
    assert_eq!(asked.header("x-api-key"), Some("sk"));
}

fn a_body_arrives_whole(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, yes(""));
    // More than latchkey takes, and more than nginx keeps in memory.
    let body: String = (0..40_000).map(|n| format!("{n} ")).collect();
    let client = guarded.gateway.client().with_key("sk");
    let reply = client.send("POST", "/orders", &body);
    assert_eq!(reply.status, 200);
    let got = reply.json();
    assert_eq!(got["method"], "POST");
    assert!(got["body"] == body.as_str(), "{} bytes", body.len());
}

fn the_applications_own_errors_pass_through(recipe: &Recipe) {
    let guarded = Guarded::by(recipe, yes(""));
    let client = guarded.gateway.client().with_key("sk");
    for status in [400, 401, 403, 404, 422, 429, 500, 502, 503] {
        let target = format!("/status/{status}");
        let reply = client.get(&target);
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("x-application"), Some("yes"), "{reply:?}");
        assert_eq!(reply.json()["target"], target);
    }
}

fn too_many_requests_come_with_the_limits(recipe: &Recipe) {
    let headers = [
        ("retry-after", "12"),
        ("ratelimit", r#""key";r=0;t=12"#),
        ("ratelimit-policy", r#""key";q=100;w=60"#),
    ];
    let reply = Guarded::by(recipe, answer(429, &headers)).refusal();
    assert_eq!(reply.status, 429, "{reply:?}");
    for (name, value) in headers {
        assert_eq!(reply.header(name), Some(value), "{reply:?}");
    }
}

fn when_nobody_can_tell_it_says_when_to_come_again(recipe: &Recipe) {
    let reply = Guarded::by(recipe, answer(503, &[("retry-after", "7")])).refusal();
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("7"), "{reply:?}");
}

fn two_different_credentials_are_the_clients_fault(recipe: &Recipe) {
    let reply = Guarded::by(recipe, answer(400, &[])).refusal();
    assert_eq!(reply.status, 400, "{reply:?}");
}

fn a_fault_of_latchkey_lets_nobody_in(recipe: &Recipe) {
    for status in [500, 502] {
        let reply = Guarded::by(recipe, answer(status, &[])).refusal();
        assert!(reply.status >= 500, "{reply:?}");
    }
    // It is not latchkey that answers these, or the recipe asks it something wrong.
    for status in [302, 404, 422] {
        let reply = Guarded::by(recipe, answer(status, &[])).refusal();
        assert!(reply.status >= 300, "{reply:?}");
    }
}

fn without_latchkey_nobody_gets_in(recipe: &Recipe) {
    // Bound, so that nobody else gets the port; not listening, so that connections are refused.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    closed.bind(&address.into()).unwrap();
    let nobody = closed.local_addr().unwrap().as_socket().unwrap();
    let application = Server::application();
    let gateway = recipe.start(nobody, application.address);
    for _ in 0..3 {
        let reply = gateway.client().with_key("sk").get("/");
        assert_eq!(reply.status, recipe.unreachable, "{reply:?}");
    }
    assert_eq!(application.requests().len(), 0);
}

fn a_latchkey_that_hangs_lets_nobody_in(recipe: &Recipe) {
    // ConnectionCounters get as far as its queue.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let application = Server::application();
    let hurry = |recipe: String| {
        assert!(recipe.contains(" 10s"), "no time limit");
        recipe.replace(" 10s", " 1s")
    };
    let latchkey = hangs.local_addr().unwrap();
    let gateway = recipe.start_with(latchkey, application.address, hurry);
    let reply = gateway.client().with_key("sk").get("/");
    assert_eq!(reply.status, recipe.too_slow, "{reply:?}");
    assert_eq!(application.requests().len(), 0);
}

fn connections_to_latchkey_are_kept(recipe: &Recipe) {
    for (answer, status) in [(yes(""), 200), (answer(401, &[]), 401)] {
        let guarded = Guarded::by(recipe, answer);
        let client = guarded.gateway.client().with_key("sk");
        for _ in 0..5 {
            assert_eq!(client.get("/").status, status);
        }
        assert_eq!(guarded.latchkey.requests().len(), 5);
        assert_eq!(guarded.latchkey.connections(), 1, "{status}");
    }
}
