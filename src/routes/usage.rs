//! `/api-keys/{id}/usage` and `/admin/usage`: how keys were used.

use actix_web::{HttpResponse, get, web};

use super::problems;
use crate::{
    domain::{error::Error, id::ApiKeyId},
    extract::{CurrentUser, Operator, QueryString, UsageRead},
    schemas::usage::{Usage, UsageSpan, WhoseUsage},
    state::State,
};

/// See how an API key was used
///
/// How many checks of it there were, wherever it was checked, and how they ended; by the hour or by the
/// day, in UTC. At most five seconds behind. A check with `cost: 0` is no use.
#[utoipa::path(
    operation_id = "get_api_key_usage",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "The key's id"), UsageSpan),
    responses((status = 200, description = "Its usage", body = Usage)),
)]
#[get("/api-keys/{id}/usage")]
pub(crate) async fn of_key(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let span = query.read::<UsageSpan>().map(|asked| asked.span());
    let report = state.usage.of_key(caller.user.id, id, span).await?;
    Ok(HttpResponse::Ok().json(Usage::from(report)))
}

/// See how all API keys were used
///
/// The same of everybody's keys together, and of what is no key; or of one account's keys. Needs
/// `usage:read`.
#[utoipa::path(
    operation_id = "get_usage",
    tag = "operators",
    security(("user_token" = [])),
    params(WhoseUsage, UsageSpan),
    responses(
        (status = 200, description = "The usage", body = Usage),
        problems::PermissionDenied,
    ),
)]
#[get("/admin/usage")]
pub(crate) async fn of_all(
    _: Operator<UsageRead>,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let (whose, span) =
        query.read_parts::<WhoseUsage, UsageSpan>(&["from", "to", "granularity"])?;
    let report = state.usage.of_all(whose.user_id, span.span()).await?;
    Ok(HttpResponse::Ok().json(Usage::from(report)))
}
