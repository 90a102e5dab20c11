//! An app of your own whose routes are guarded in its own process: no call to another service for each
//! request, and a key that was revoked is refused as soon as that has answered.
//!
//! It takes the same settings as `latchkey serve`: the environment, a `.env` file, or flags. With
//! PostgreSQL it runs beside the service, as one more instance on its database:
//!
//! ```sh
//! DATABASE_URL=postgres://… cargo run --example guarded_app -- --port 9000
//! ```
//!
//! An embedded database is for one process: there it takes the place of the service.

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

/// Any good key will do.
#[get("/me", wrap = "RequireApiKey::new()")]
async fn me(key: VerifiedKey) -> HttpResponse {
    HttpResponse::Ok().json(json!({"key_id": key.id, "user_id": key.user_id}))
}

async fn orders(key: VerifiedKey) -> HttpResponse {
    HttpResponse::Ok().json(json!({"orders": [], "of": key.user_id}))
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(me);
    // Whatever is added to this scope is guarded, also what nobody has thought of yet.
    app.service(
        web::scope("/orders")
            .wrap(RequireApiKey::scope("orders:read"))
            .route("", web::get().to(orders)),
    );
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let config = cli::settings_of("guarded_app").map_err(io::Error::other)?;
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
    let served = engine.clone();
    let app = move || {
        App::new()
            .app_data(served.clone())
            // Whose word on the client's address is believed: for keys that have an allowlist.
            .app_data(proxies.clone())
            .configure(routes)
            // Errors as problem+json, and a line in the log for each request.
            .wrap(from_fn(request_context))
    };
    let server = HttpServer::new(app).bind((config.host.as_str(), config.port))?;
    for address in server.addrs() {
        tracing::info!("listening on http://{address}");
    }
    // The engine goes on until the server has ended, then gives back what it holds.
    let (serving, ended) = tokio::sync::oneshot::channel::<()>();
    let serve = async {
        let end = server.run().await;
        drop(serving);
        end
    };
    let stop = async { drop(ended.await) };
    let (end, kept) = tokio::join!(serve, engine.run(&config.usage, stop));
    end?;
    kept.map_err(std::io::Error::other)
}
