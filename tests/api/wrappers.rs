//! Our wrappers around the handlers of another team's app.

use actix_web::{App, HttpResponse, HttpServer, middleware::from_fn, web};
use latchkey::{
    domain::network::TrustedProxies,
    middleware::{RequireApiKey, request_context},
    verification::engine::{Engine, VerifiedKey},
};
use serde_json::json;

use crate::support::{Client, TestServer};

/// Another team's app: our wrappers around its own handlers.
pub fn own_app(app: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> Client {
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
fn a_panic_answers_500_and_the_service_goes_on() {
    let client = own_app(|app| {
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
fn what_a_handler_chose_to_say_itself_stays() {
    let client = own_app(|app| {
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
fn a_handler_that_wants_a_key_answers_nobody_outside_the_guard() {
    let client = own_app(|app| {
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
fn a_guard_without_an_engine_lets_nobody_in() {
    let client = own_app(|app| {
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

/// An engine of another app on the server's database, which is for one at a time.
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
fn a_guarded_scope_lets_nobody_reach_what_it_wraps() {
    let mut server = TestServer::on_sqlite(|_| {});
    let key = server.user("ada@example.com").create_key();
    let engine = engine(&mut server);
    let client = own_app(move |app| {
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
    let known = client.with_key(key["api_key"].as_str().unwrap());
    assert_eq!(known.get("/orders/1").body, key["id"].as_str().unwrap());
    assert_eq!(known.get("/orders/a/b/c").body, "default");
}

#[test]
fn a_guard_with_scopes_lets_in_who_has_them_and_names_what_is_missing() {
    let mut server = TestServer::on_sqlite(|_| {});
    let ada = server.user("ada@example.com");
    let asked: [&[&str]; 7] = [
        &["orders:read"],
        &["orders:*"],
        &["*"],
        &[],
        &["orders:write"],
        &["orders"],
        &["invoices:*", "order:*"],
    ];
    let keys = asked.map(|scopes| ada.create_key_with(&json!({"scopes": scopes})));
    let engine = engine(&mut server);
    let app = own_app(move |app| {
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
        let place = asked.iter().position(|asked| *asked == scopes).unwrap();
        app.with_key(keys[place]["api_key"].as_str().unwrap())
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
fn a_guard_believes_the_proxies_that_its_app_trusts() {
    let mut server = TestServer::on_sqlite(|_| {});
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"ip_allowlist": ["192.0.2.0/24"]}));
    let engine = engine(&mut server);
    let app = |proxies: &'static str| {
        let engine = engine.clone();
        let client = own_app(move |app| {
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
fn a_guard_that_asks_for_no_scope_does_not_start() {
    let _ = RequireApiKey::scope("orders read");
}
