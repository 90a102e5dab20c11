//! Handlers of `/api-keys/{id}/usage` and `/admin/usage`: usage reports.

use actix_web::{HttpResponse, get, web};

use super::problems;
use crate::{
    domain::{error::Error, id::ApiKeyId},
    extract::{CurrentUser, Operator, QueryString, UsageRead},
    schemas::usage::{Usage, UsageFilter, UsageSpan},
    state::State,
};

/// Get the usage of an API key
///
/// Returns the number of checks of the key on all instances, by outcome, per hour or per day in UTC. At most 5
/// seconds behind. A check with `cost: 0` is not counted.
#[utoipa::path(
    operation_id = "get_api_key_usage",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "Id of the key"), UsageSpan),
    responses((status = 200, description = "The usage of the key", body = Usage)),
)]
#[get("/api-keys/{id}/usage")]
pub(crate) async fn for_key(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let span = query.read::<UsageSpan>().map(|input| input.span());
    let report = state.usage.of_key(caller.user.id, id, span).await?;
    Ok(HttpResponse::Ok().json(Usage::from(report)))
}

/// Get the usage of all API keys
///
/// Returns the number of checks by outcome, per hour or per day in UTC: of the keys of all accounts together and of
/// unknown keys, or of one account's keys. Requires the permission `usage:read`.
#[utoipa::path(
    operation_id = "get_usage",
    tag = "operators",
    security(("user_token" = [])),
    params(UsageFilter, UsageSpan),
    responses(
        (status = 200, description = "The usage", body = Usage),
        problems::PermissionDenied,
    ),
)]
#[get("/admin/usage")]
pub(crate) async fn for_all(
    _: Operator<UsageRead>,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let (filter, span) =
        query.read_parts::<UsageFilter, UsageSpan>(&["from", "to", "granularity"])?;
    let report = state.usage.of_all(filter.user_id, span.span()).await?;
    Ok(HttpResponse::Ok().json(Usage::from(report)))
}
