//! Table of URLs. A route is registered together with its documentation: `#[utoipa::path]` beside each handler
//! names its method and path.

pub(crate) mod accounts;
pub(crate) mod admin_keys;
pub(crate) mod admin_roles;
pub(crate) mod admin_users;
pub(crate) mod api_keys;
pub(crate) mod audit_log;
pub(crate) mod docs;
pub(crate) mod fallback;
pub(crate) mod forward_auth;
pub(crate) mod health;
pub(crate) mod problems;
pub(crate) mod protected;
mod static_document;
pub(crate) mod usage;
pub(crate) mod verify;

use actix_web::{HttpResponse, http::header::LINK, web};
use serde::Serialize;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{domain::id::Id, extract::Page};

/// Registers every documented route, the hot path first: the router tries the routes in this order.
pub(crate) fn table(app: &mut ServiceConfig<'_>) {
    app.service(protected::protected) // GET /protected, behind an API key
        .service(verify::verify) // POST /verify
        .service(verify::verify_batch) // POST /verify/batch
        .map(any_method) // /forward-auth
        .service(accounts::sign_up) // POST /auth/signup
        .service(accounts::log_in) // POST /auth/login
        .service(accounts::me) // GET /auth/me
        .service(accounts::change_password) // POST /auth/password
        .service(accounts::log_out) // POST /auth/logout
        .service(api_keys::create) // POST /api-keys
        .service(api_keys::list) // GET /api-keys
        .service(api_keys::get) // GET /api-keys/{id}
        .service(api_keys::update) // PATCH /api-keys/{id}
        .service(api_keys::rotate) // POST /api-keys/{id}/rotate
        .service(api_keys::revoke) // DELETE /api-keys/{id}
        .service(usage::for_key) // GET /api-keys/{id}/usage
        .service(admin_users::list) // GET /admin/users
        .service(admin_users::update) // PATCH /admin/users/{id}
        .service(admin_keys::list) // GET /admin/api-keys
        .service(admin_keys::revoke) // DELETE /admin/api-keys/{id}
        .service(admin_roles::list) // GET /admin/roles
        .service(admin_roles::put) // PUT /admin/roles/{name}
        .service(admin_roles::delete) // DELETE /admin/roles/{name}
        .service(usage::for_all) // GET /admin/usage
        .service(audit_log::list) // GET /audit-log
        .service(health::live) // GET /health/live
        .service(health::ready); // GET /health/ready
}

/// Registers the route that accepts any method. It has no method attribute, so `openapi` adds it to the
/// document.
fn any_method(app: &mut web::ServiceConfig) -> &mut web::ServiceConfig {
    app.configure(forward_auth::configure)
}

/// Responds with a page of a list, and a `Link` header to the next page if there is one.
fn paged<I: Id, T, S: Serialize>(
    page: &Page<I>,
    mut rows: Vec<T>,
    id: impl Fn(&T) -> I,
    show: impl Fn(T) -> S,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(next) = page.cut(&mut rows, id) {
        response.insert_header((LINK, next));
    }
    response.json(rows.into_iter().map(show).collect::<Vec<_>>())
}
