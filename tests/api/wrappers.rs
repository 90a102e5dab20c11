//! Latchkey's middleware around the handlers of another team's app.

use actix_web::{App, HttpResponse, HttpServer, middleware::from_fn, web};
use latchkey::{
    domain::network::TrustedProxies,
    middleware::{RequireApiKey, request_context},
    verification::engine::{Engine, VerifiedKey},
};
use serde_json::json;

use crate::support::{Client, TestServer};

/// Starts another team's app with latchkey's middleware around its handlers, and returns a client for it.
pub fn start_app(app: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> Client {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let factory = move || {
            App::new()
                .configure(app.clone())
                .wrap(from_fn(request_context))
        };
        let server = HttpServer::new(factory)
            .workers(1)
            .listen(listener)
            .unwrap();
        actix_web::rt::System::new().block_on(server.disable_signals().run())
    });
    Client::new(format!("http://{address}"))
}

#[test]
fn panicking_handler_returns_500_and_the_service_keeps_serving() {
    let client = start_app(|app| {
        app.route(
            "/panic",
            web::get().to(async || -> &'static str { panic!("sk_live_secret") }),
        )
        .route("/fine", web::get().to(async || "fine"));
    });
    for _ in 0..3 {
        let reply = client.get("/panic");
        reply.assert_problem(500, "internal_error");
        assert!(!reply.body.contains("sk_live_secret"));
        assert_eq!(client.get("/fine").body, "fine");
    }
}

#[test]
fn error_body_of_a_handler_is_kept() {
    let client = start_app(|app| {
        app.route(
            "/conflict",
            web::get().to(async || HttpResponse::Conflict().body("mine")),
        )
        .route(
            "/teapot",
            web::get().to(async || HttpResponse::ImATeapot().finish()),
        )
        .route(
            "/bare",
            web::get().to(async || HttpResponse::NotFound().finish()),
        )
        .service(web::resource("/get").route(web::get().to(async || "got")));
    });
    let reply = client.get("/conflict");
    assert_eq!((reply.status, reply.body.as_str()), (409, "mine"));
    assert_eq!(client.get("/teapot").status, 418);
    assert_eq!(client.post("/get").status, 405);
    client.get("/bare").assert_problem(404, "not_found");
    client.get("/nothing").assert_problem(404, "not_found");
}

#[test]
fn handler_that_extracts_a_key_outside_the_guard_returns_500() {
    let client = start_app(|app| {
        app.route("/unguarded", web::get().to(async |_: VerifiedKey| "let in"));
    });
    client
        .get("/unguarded")
        .assert_problem(500, "internal_error");
    client
        .with_key("sk_live_x")
        .get("/unguarded")
        .assert_problem(500, "internal_error");
}

#[test]
fn guard_without_an_engine_rejects_every_request() {
    let client = start_app(|app| {
        app.service(
            web::scope("/orders")
                .wrap(RequireApiKey::new())
                .route("", web::get().to(async || "let in")),
        );
    });
    client
        .get("/orders")
        .assert_problem(401, "missing_credentials");
    client
        .with_key("sk_live_x")
        .get("/orders")
        .assert_problem(500, "internal_error");
}

/// Stops the server and opens an engine on its database, as another app would. An embedded database serves only
/// one process at a time.
pub fn engine(server: &mut TestServer) -> web::Data<Engine> {
    server.stop();
    let mut config = crate::support::config(&server.database_url);
    config.database.pool_size = 2;
    let engine = Engine::open(
        &config.database,
        &config.cache,
        &config.limits,
        &config.usage,
        server.clock.clone(),
    );
    web::Data::new(engine.unwrap())
}

#[test]
fn guarded_scope_rejects_every_request_without_a_key() {
    let mut server = TestServer::on_sqlite(|_| {});
    let key = server.user("ada@example.com").create_key();
    let engine = engine(&mut server);
    let client = start_app(move |app| {
        app.app_data(engine.clone()).service(
            web::scope("/orders")
                .wrap(RequireApiKey::new())
                .route(
                    "/{id}",
                    web::to(async |key: VerifiedKey| key.id.to_string()),
                )
                .default_service(web::to(async || "default")),
        );
    });
    for (method, path) in [
        ("GET", "/orders/1"),
        ("POST", "/orders/1"),
        ("GET", "/orders"),
        ("GET", "/orders/a/b/c"),
    ] {
        client
            .send(method, path, "")
            .assert_problem(401, "missing_credentials");
    }
    let caller = client.with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/orders/1").body, key["id"].as_str().unwrap());
    assert_eq!(caller.get("/orders/a/b/c").body, "default");
}

#[test]
fn guard_with_scopes_accepts_sufficient_keys_and_names_missing_scopes() {
    let mut server = TestServer::on_sqlite(|_| {});
    let ada = server.user("ada@example.com");
    let scope_sets: [&[&str]; 7] = [
        &["orders:read"],
        &["orders:*"],
        &["*"],
        &[],
        &["orders:write"],
        &["orders"],
        &["invoices:*", "order:*"],
    ];
    let keys = scope_sets.map(|scopes| ada.create_key_with(&json!({"scopes": scopes})));
    let engine = engine(&mut server);
    let app = start_app(move |app| {
        app.app_data(engine.clone())
            .service(
                web::resource("/orders")
                    .wrap(RequireApiKey::scope("orders:read"))
                    .to(async |key: VerifiedKey| key.scopes.iter().collect::<Vec<_>>().join(" ")),
            )
            .service(
                web::resource("/both")
                    .wrap(RequireApiKey::scopes(["orders:read", "keys:verify"]))
                    .to(async || "let in"),
            );
    });
    let key_with = |scopes: &[&str]| {
        let index = scope_sets.iter().position(|set| *set == scopes).unwrap();
        app.with_key(keys[index]["api_key"].as_str().unwrap())
    };
    for scopes in [["orders:read"], ["orders:*"], ["*"]] {
        let reply = key_with(&scopes).get("/orders");
        assert_eq!((reply.status, reply.body.as_str()), (200, scopes[0]));
    }
    for scopes in [
        &[][..],
        &["orders:write"],
        &["orders"],
        &["invoices:*", "order:*"],
    ] {
        let reply = key_with(scopes).get("/orders");
        let problem = reply.assert_problem(403, "insufficient_scope");
        assert_eq!(problem["missing_scopes"], json!(["orders:read"]));
        assert!(problem["detail"].as_str().unwrap().contains("orders:read"));
    }
    let problem = key_with(&["*"])
        .get("/both")
        .assert_problem(403, "insufficient_scope");
    assert_eq!(problem["missing_scopes"], json!(["keys:verify"]));
    let problem = key_with(&[])
        .get("/both")
        .assert_problem(403, "insufficient_scope");
    assert_eq!(
        problem["missing_scopes"],
        json!(["orders:read", "keys:verify"])
    );
    app.get("/orders")
        .assert_problem(401, "missing_credentials");
}

#[test]
fn guard_uses_the_trusted_proxies_of_its_app() {
    let mut server = TestServer::on_sqlite(|_| {});
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"ip_allowlist": ["192.0.2.0/24"]}));
    let engine = engine(&mut server);
    let app = |proxies: &'static str| {
        let engine = engine.clone();
        let client = start_app(move |app| {
            app.app_data(engine.clone())
                .app_data(web::Data::new(proxies.parse::<TrustedProxies>().unwrap()))
                .service(
                    web::resource("/")
                        .wrap(RequireApiKey::new())
                        .to(async || "let in"),
                );
        });
        client
            .with_key(key["api_key"].as_str().unwrap())
            .with("x-forwarded-for", "192.0.2.7")
            .get("/")
    };
    assert_eq!(app("127.0.0.1").status, 200);
    app("").assert_problem(403, "ip_not_allowed");
}

#[test]
#[should_panic(expected = "must be 1 to 64 characters")]
fn guard_with_an_invalid_scope_panics_on_construction() {
    let _ = RequireApiKey::scope("orders read");
}
