//! Our wrappers around the handlers of another team's app.

use actix_web::{App, HttpResponse, HttpServer, middleware::from_fn, web};
use latchkey::{
    middleware::{RequireApiKey, request_context},
    verification::engine::VerifiedKey,
};

use crate::support::Client;

/// Another team's app: our wrappers around its own handlers.
fn own_app(app: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> Client {
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

#[test]
fn a_guarded_scope_lets_nobody_reach_what_it_wraps() {
    use latchkey::{
        core::{clock::Clock, config::Config},
        db::Db,
        verification::engine::Engine,
    };
    let server = crate::support::TestServer::on_sqlite(|_| {});
    let key = server.user("ada@example.com").create_key();
    let mut config: Config = crate::support::config(&server.database_url);
    config.database.pool_size = 2;
    let engine = web::Data::new(Engine::new(
        Db::open(&config.database).unwrap(),
        Clock::default(),
    ));
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
