//! Handlers of `/health`: liveness and readiness.

use actix_web::{HttpResponse, get, web};

use crate::{
    domain::error::Error,
    extract::QueryString,
    schemas::health::{Health, OK, Purpose, ReadyFor},
    state::State,
};

/// Check liveness
#[utoipa::path(
    tag = "health",
    responses((status = 200, description = "The process is running", body = Health)),
)]
#[get("/health/live")]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(OK)
}

/// Check readiness
///
/// Responds 503 in these cases; `detail` says which one applies:
///
/// - The database is out of reach, or cannot commit changes (full disk, read-only).
/// - The database file was moved or replaced.
/// - The instance has no lease, and so may not answer from its cache.
/// - The instance is shutting down.
///
/// With `for=checks`, responds 200 as long as API keys can be checked, from the cache or in the database, even if
/// nothing can be changed. For load balancers and gateways that send key checks only.
#[utoipa::path(
    tag = "health",
    params(ReadyFor),
    responses((status = 200, description = "The service is ready", body = Health)),
)]
#[get("/health/ready")]
pub(crate) async fn ready(
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    match query.read::<ReadyFor>()?.purpose {
        None => state.readiness.require_all().await?,
        Some(Purpose::Checks) => state.readiness.require_checks().await?,
    }
    Ok(HttpResponse::Ok().json(OK))
}
