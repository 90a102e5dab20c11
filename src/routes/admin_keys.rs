//! Handlers of `/admin/api-keys`: the API keys of all accounts, for operators.

use actix_web::{HttpResponse, delete, get, web};

use super::{paged, problems};
use crate::{
    domain::{error::Error, id::ApiKeyId},
    extract::{KeysRead, KeysWrite, ListPage, Operator, QueryString},
    models::api_key::Ownership,
    schemas::{api_key::AnybodysKey, api_key_input::AllKeys},
    state::State,
};

/// List the API keys of all accounts
///
/// Returns keys of every status, newest first. Requires the permission `keys:read`.
#[utoipa::path(
    operation_id = "list_everybodys_api_keys",
    tag = "operators",
    security(("user_token" = [])),
    params(AllKeys, ListPage),
    responses(
        (status = 200, description = "A page of keys", body = Vec<AnybodysKey>),
        problems::PermissionDenied,
    ),
)]
#[get("/admin/api-keys")]
pub(crate) async fn list(
    Operator { caller, .. }: Operator<KeysRead>,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let (filter, page) = query.list::<AllKeys, ApiKeyId>(caller.user.id)?;
    let filter = filter.check()?;
    let keys = state
        .api_keys
        .list(filter, page.before, page.rows())
        .await?;
    let now = state.clock.now();
    Ok(paged(
        &page,
        keys,
        |stored| stored.key.id,
        |stored| AnybodysKey::new(stored, now),
    ))
}

/// Revoke any API key
///
/// Permanently revokes the key. When the response arrives, no instance accepts it. Idempotent. Requires the
/// permission `keys:write`.
#[utoipa::path(
    operation_id = "revoke_anybodys_api_key",
    tag = "operators",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "Id of the key")),
    responses(
        (status = 200, description = "The revoked key", body = AnybodysKey),
        problems::PermissionDenied,
    ),
)]
#[delete("/admin/api-keys/{id}")]
pub(crate) async fn revoke(
    Operator { caller, .. }: Operator<KeysWrite>,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let stored = state
        .api_keys
        .revoke(&caller, Ownership::Everybody, id)
        .await?;
    Ok(HttpResponse::Ok().json(AnybodysKey::new(stored, state.clock.now())))
}
