//! The URL table. A route is registered together with its documentation; `#[utoipa::path]` beside
//! each handler names its method and path.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod docs;
pub(crate) mod fallback;
pub(crate) mod health;
pub(crate) mod problems;
pub(crate) mod protected;

use utoipa_actix_web::service_config::ServiceConfig;

/// Everything that is documented, the hot path first: the router tries them in this order.
pub(crate) fn table(app: &mut ServiceConfig<'_>) {
    app.service(protected::protected) // GET /protected, behind an API key
        .service(accounts::sign_up) // POST /auth/signup
        .service(accounts::log_in) // POST /auth/login
        .service(accounts::me) // GET /auth/me
        .service(accounts::change_password) // POST /auth/password
        .service(accounts::log_out) // POST /auth/logout
        .service(api_keys::create) // POST /api-keys
        .service(api_keys::list) // GET /api-keys
        .service(api_keys::get) // GET /api-keys/{id}
        .service(api_keys::revoke) // DELETE /api-keys/{id}
        .service(health::live) // GET /health/live
        .service(health::ready); // GET /health/ready
}
