//! Handlers of `/api-keys`: the caller's own keys.

use actix_web::{
    HttpResponse, delete, get,
    http::header::{CacheControl, CacheDirective, LOCATION},
    patch, post, web,
};

use super::{paged, problems};
use crate::{
    domain::{api_key::PlainApiKey, error::Error, id::ApiKeyId},
    extract::{Body, CurrentUser, ListPage, QueryString},
    models::api_key::{OwnedKey, Ownership},
    schemas::{
        api_key::{CreatedApiKey, Key},
        api_key_input::{CreateApiKey, OwnKeys, RotateApiKey, UpdateApiKey},
    },
    state::State,
};

/// Create an API key
///
/// Only this response contains the whole key: it cannot be retrieved later. The body may be omitted.
#[utoipa::path(
    operation_id = "create_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    request_body = Option<CreateApiKey>,
    responses(
        (
            status = 201, description = "The new key", body = CreatedApiKey,
            headers(
                ("Location" = String, description = "Path of the key"),
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
    let input = body.json_or_default::<CreateApiKey>().await?;
    let (environment, settings) = input.check(state.clock.now())?;
    let created = state
        .api_keys
        .create(&caller, environment, settings)
        .await?;
    Ok(created_key(&state, created))
}

/// List your API keys
///
/// Returns your keys of every status, newest first. The `Link` header refers to the next page.
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
    let (filter, page) = query.list::<OwnKeys, ApiKeyId>(caller.user.id)?;
    let filter = filter.check(caller.user.id)?;
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

/// Get an API key
#[utoipa::path(
    operation_id = "get_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "Id of the key")),
    responses((status = 200, description = "The key", body = Key)),
)]
#[get("/api-keys/{id}")]
pub(crate) async fn get(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let stored = state
        .api_keys
        .get(Ownership::Own(caller.user.id), id)
        .await?;
    Ok(HttpResponse::Ok().json(Key::new(stored, state.clock.now())))
}

/// Change an API key
///
/// Applies a JSON merge patch (RFC 7396): an omitted field keeps its value, `null` clears it. An expired or
/// revoked key cannot be changed. The expiry of a key that was rotated cannot be extended.
#[utoipa::path(
    operation_id = "update_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "Id of the key")),
    request_body(content(
        (UpdateApiKey = "application/json"),
        (UpdateApiKey = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, description = "The changed key", body = Key),
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
    // Before the body is read: for a key of another account the response is 404 whatever the body, so that its
    // existence is not disclosed.
    state
        .api_keys
        .get(Ownership::Own(caller.user.id), id)
        .await?;
    let patch = body.merge_patch::<UpdateApiKey>().await?;
    let patch = patch.check(state.clock.now())?;
    let stored = state.api_keys.update(&caller, id, patch).await?;
    Ok(HttpResponse::Ok().json(Key::new(stored, state.clock.now())))
}

/// Rotate an API key
///
/// Creates a successor with all settings of the old key. Only this response contains the whole new key.
///
/// The old key remains valid until the grace period ends, unless it expires or is revoked earlier. A key can be
/// rotated once.
#[utoipa::path(
    operation_id = "rotate_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "Id of the old key")),
    request_body = Option<RotateApiKey>,
    responses(
        (
            status = 201, description = "The new key", body = CreatedApiKey,
            headers(
                ("Location" = String, description = "Path of the new key"),
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
    state
        .api_keys
        .get(Ownership::Own(caller.user.id), id)
        .await?;
    let grace = body.json_or_default::<RotateApiKey>().await?.check()?;
    let created = state.api_keys.rotate(&caller, id, grace).await?;
    Ok(created_key(&state, created))
}

/// Revoke an API key
///
/// Permanently revokes the key. When the response arrives, no instance accepts it. Idempotent.
#[utoipa::path(
    operation_id = "revoke_api_key",
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "Id of the key")),
    responses((status = 200, description = "The revoked key", body = Key)),
)]
#[delete("/api-keys/{id}")]
pub(crate) async fn revoke(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let reach = Ownership::Own(caller.user.id);
    let stored = state.api_keys.revoke(&caller, reach, id).await?;
    Ok(HttpResponse::Ok().json(Key::new(stored, state.clock.now())))
}

fn created_key(state: &State, (plain, stored): (PlainApiKey, OwnedKey)) -> HttpResponse {
    HttpResponse::Created()
        .insert_header(CacheControl(vec![CacheDirective::NoStore]))
        .insert_header((LOCATION, format!("/api-keys/{}", stored.key.id)))
        .json(CreatedApiKey::new(&plain, stored, state.clock.now()))
}
