//! `/api-keys`: one's own keys.

use actix_web::{
    HttpResponse, delete, get,
    http::header::{CacheControl, CacheDirective, LOCATION},
    patch, post, web,
};

use super::{paged, problems};
use crate::{
    domain::{api_key::PlainApiKey, error::Error, id::ApiKeyId},
    extract::{Body, CurrentUser, ListPage, QueryString},
    models::api_key::{OwnedKey, Reach},
    schemas::{
        api_key::{CreatedApiKey, Key},
        api_key_input::{CreateApiKey, OwnKeys, RotateApiKey, UpdateApiKey},
    },
    state::State,
};

/// Create an API key
///
/// The answer is the only one that ever shows the whole key. No body is needed.
#[utoipa::path(
    operation_id = "create_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    request_body = Option<CreateApiKey>,
    responses(
        (
            status = 201, description = "The key", body = CreatedApiKey,
            headers(
                ("Location" = String, description = "Where the key is found from now on"),
                ("Cache-Control" = String, description = "`no-store`"),
            ),
        ),
        problems::PermissionDenied,
    ),
)]
#[post("/api-keys")]
pub(crate) async fn create(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let chosen = body.json_or_default::<CreateApiKey>().await?;
    let (environment, settings) = chosen.check(state.clock.now())?;
    let created = state
        .api_keys
        .create(&caller, environment, settings)
        .await?;
    Ok(created_key(&state, created))
}

/// List your API keys
///
/// Newest first, whatever has become of them. The `Link` header leads to the next page.
#[utoipa::path(
    operation_id = "list_api_keys",
    tag = "API keys",
    security(("user_token" = [])),
    params(OwnKeys, ListPage),
    responses((
        status = 200, description = "A page of keys", body = Vec<Key>,
    )),
)]
#[get("/api-keys")]
pub(crate) async fn list(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let (asked, page) = query.list::<OwnKeys, ApiKeyId>(caller.user.id)?;
    let filter = asked.check(caller.user.id)?;
    let keys = state
        .api_keys
        .list(filter, page.before, page.rows())
        .await?;
    let now = state.clock.now();
    Ok(paged(
        &page,
        keys,
        |stored| stored.key.id,
        |stored| Key::new(stored, now),
    ))
}

/// Look at an API key
#[utoipa::path(
    operation_id = "get_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "The key's id")),
    responses((status = 200, description = "The key", body = Key)),
)]
#[get("/api-keys/{id}")]
pub(crate) async fn get(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let stored = state.api_keys.get(Reach::Own(caller.user.id), id).await?;
    Ok(HttpResponse::Ok().json(Key::new(stored, state.clock.now())))
}

/// Change an API key
///
/// A JSON merge patch (RFC 7396): what is left out stays, `null` clears. A key that has expired or was
/// revoked can't be changed any more, and one that was rotated can't be given more time.
#[utoipa::path(
    operation_id = "update_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "The key's id")),
    request_body(content(
        (UpdateApiKey = "application/json"),
        (UpdateApiKey = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, description = "The key as it is now", body = Key),
        problems::PermissionDenied,
        problems::Conflict,
    ),
)]
#[patch("/api-keys/{id}")]
pub(crate) async fn update(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    // Before the body: of somebody else's key nothing is told, not even what it could be changed to.
    state.api_keys.get(Reach::Own(caller.user.id), id).await?;
    let patch = body.merge_patch::<UpdateApiKey>().await?;
    let patch = patch.check(state.clock.now())?;
    let stored = state.api_keys.update(&caller, id, patch).await?;
    Ok(HttpResponse::Ok().json(Key::new(stored, state.clock.now())))
}

/// Rotate an API key
///
/// Makes a successor with everything of the old key, and shows it whole this once. The old one stays
/// good until the grace period ends, and can be revoked before. A key has one successor.
#[utoipa::path(
    operation_id = "rotate_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "The old key's id")),
    request_body = Option<RotateApiKey>,
    responses(
        (
            status = 201, description = "The new key", body = CreatedApiKey,
            headers(
                ("Location" = String, description = "Where the new key is found from now on"),
                ("Cache-Control" = String, description = "`no-store`"),
            ),
        ),
        problems::Conflict,
    ),
)]
#[post("/api-keys/{id}/rotate")]
pub(crate) async fn rotate(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    state.api_keys.get(Reach::Own(caller.user.id), id).await?;
    let grace = body.json_or_default::<RotateApiKey>().await?.check()?;
    let created = state.api_keys.rotate(&caller, id, grace).await?;
    Ok(created_key(&state, created))
}

/// Revoke an API key
///
/// For good. Once this has answered, the key is refused. Again is the same.
#[utoipa::path(
    operation_id = "revoke_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "The key's id")),
    responses((status = 200, description = "The revoked key", body = Key)),
)]
#[delete("/api-keys/{id}")]
pub(crate) async fn revoke(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let reach = Reach::Own(caller.user.id);
    let stored = state.api_keys.revoke(&caller, reach, id).await?;
    Ok(HttpResponse::Ok().json(Key::new(stored, state.clock.now())))
}

fn created_key(state: &State, (plain, stored): (PlainApiKey, OwnedKey)) -> HttpResponse {
    HttpResponse::Created()
        .insert_header(CacheControl(vec![CacheDirective::NoStore]))
        .insert_header((LOCATION, format!("/api-keys/{}", stored.key.id)))
        .json(CreatedApiKey::new(&plain, stored, state.clock.now()))
}
