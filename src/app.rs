//! Builds the actix app from the shared state. The server and the tests run the same app.

use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    middleware::from_fn,
    web,
};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    middleware::{BrowserPolicy, request_context},
    routes::{
        self,
        docs::Documents,
        fallback::{self, AllowedMethods},
    },
    state::State,
};

/// Builds the whole app, including the pages of the API documentation.
pub(crate) fn build(
    state: web::Data<State>,
    documents: web::Data<Documents>,
    allowed: web::Data<AllowedMethods>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let browser_policy = BrowserPolicy::new(state.allowed_origins.clone());
    App::new()
        .app_data(web::Data::new(state.engine.clone()))
        .app_data(web::Data::new(state.trusted_proxies.clone()))
        .app_data(web::Data::new(browser_policy))
        .app_data(state.body_limits)
        .app_data(state.clone())
        .app_data(allowed)
        .app_data(documents)
        .configure(|app| routes::table(&mut ServiceConfig::new(app)))
        .configure(routes::docs::configure)
        .default_service(web::to(fallback::no_such_route))
        .wrap(from_fn(request_context))
}
