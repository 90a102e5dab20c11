//! The state becomes an actix app: what the server and the tests both run.

use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    middleware::from_fn,
    web,
};
use utoipa::openapi::OpenApi;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    middleware::{BrowserPolicy, request_context},
    routes::{self, fallback},
    state::State,
};

/// The whole app, with its documentation.
pub fn build(
    state: web::Data<State>,
    document: web::Data<OpenApi>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let allowed = web::Data::new(fallback::AllowedMethods::of(&document));
    let browser_policy = BrowserPolicy::new(state.allowed_origins.clone());
    App::new()
        .app_data(web::Data::new(state.engine.clone()))
        .app_data(web::Data::new(state.trusted_proxies.clone()))
        .app_data(web::Data::new(browser_policy))
        .app_data(state.body_limits)
        .app_data(state.clone())
        .app_data(allowed)
        .configure(|app| routes::table(&mut ServiceConfig::new(app)))
        .configure(|app| routes::docs::configure(app, &document))
        .default_service(web::to(fallback::no_such_route))
        .wrap(from_fn(request_context))
}
