//! `/health`: whether the process lives, and whether it can do its work.

use actix_web::{HttpResponse, get, web};

use crate::{
    core::error::Error,
    schemas::health::{Health, OK},
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
/// 503 while the database is out of reach, while the lease is missing by which it may answer from memory,
/// and once it is stopping; `detail` says which.
#[utoipa::path(
    tag = "health",
    responses((status = 200, description = "It can", body = Health)),
)]
#[get("/health/ready")]
pub(crate) async fn ready(state: web::Data<State>) -> Result<HttpResponse, Error> {
    state.readiness.check().await?;
    Ok(HttpResponse::Ok().json(OK))
}
