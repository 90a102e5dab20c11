//! `/health`: whether the process lives, and whether it can do its work.

use actix_web::{HttpResponse, get, web};

use crate::{
    domain::error::Error,
    extract::QueryString,
    schemas::health::{Health, OK, Purpose, ReadyFor},
    state::State,
};

/// Is the process alive
#[utoipa::path(
    tag = "health",
    responses((status = 200, description = "It is", body = Health)),
)]
#[get("/health/live")]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(OK)
}

/// Can it answer
///
/// 503 while the database is out of reach or takes no changes (its disk is full, it is read-only), while its file
/// was moved away or replaced, while the instance has no lease to answer from its cache, and once it is stopping;
/// `detail` says which.
///
/// With `for=checks` it is 200 as long as keys can be checked, from the cache or in the database, whether or not
/// anything can be changed: for load balancers and gateways that send checks of keys.
#[utoipa::path(
    tag = "health",
    params(ReadyFor),
    responses((status = 200, description = "It can", body = Health)),
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
