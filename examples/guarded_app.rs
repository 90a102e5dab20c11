//! An app that checks API keys in its own process, without a call to another service for each request. A revoked key is
//! rejected as soon as the request that revoked it has its response.
//!
//! The app has the same settings as `latchkey serve`: the environment, a `.env` file, or flags. With PostgreSQL it runs
//! beside the service, as one more instance on its database:
//!
//! ```sh
//! DATABASE_URL=postgres://… cargo run --example guarded_app -- --port 9000
//! ```
//!
//! Only one process can use an embedded database. There the app runs instead of the service.

use std::io;

use actix_web::{App, HttpResponse, HttpServer, get, middleware::from_fn, web};
use latchkey::{
    cli,
    domain::clock::Clock,
    middleware::{RequireApiKey, request_context},
    telemetry::logs,
    verification::engine::{Engine, VerifiedKey},
};
use serde_json::json;

/// Accepts any valid key.
#[get("/me", wrap = "RequireApiKey::new()")]
async fn me(key: VerifiedKey) -> HttpResponse {
    HttpResponse::Ok().json(json!({"key_id": key.id, "user_id": key.user_id}))
}

async fn orders(key: VerifiedKey) -> HttpResponse {
    HttpResponse::Ok().json(json!({"orders": [], "of": key.user_id}))
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(me);
    // All routes in this scope need the key, including routes that are added later.
    app.service(
        web::scope("/orders")
            .wrap(RequireApiKey::scope("orders:read"))
            .route("", web::get().to(orders)),
    );
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let config = cli::read_settings("guarded_app").map_err(io::Error::other)?;
    let _logs = logs::start(&config.log);

    let engine = Engine::open(
        &config.database,
        &config.cache,
        &config.limits,
        &config.usage,
        Clock::default(),
    );
    let engine = engine.map_err(|error| io::Error::other(error.to_string()))?;
    let engine = web::Data::new(engine);
    let proxies = web::Data::new(config.trusted_proxies.clone());
    let app_engine = engine.clone();
    let app = move || {
        App::new()
            .app_data(app_engine.clone())
            // Trusted proxies, for the client's address: keys may have an allowlist.
            .app_data(proxies.clone())
            .configure(routes)
            // Returns errors as problem+json, and logs each request.
            .wrap(from_fn(request_context))
    };
    let server = HttpServer::new(app).bind((config.host.as_str(), config.port))?;
    for address in server.addrs() {
        tracing::info!("listening on http://{address}");
    }
    // The engine runs until the server has ended. Then it writes pending counts and releases its lease.
    let (running, ended) = tokio::sync::oneshot::channel::<()>();
    let serve = async {
        let result = server.run().await;
        drop(running);
        result
    };
    let shutdown = async { drop(ended.await) };
    let (served, flushed) = tokio::join!(serve, engine.run(&config.usage, shutdown));
    served?;
    flushed.map_err(std::io::Error::other)
}
