//! `/docs`: Swagger UI, from assets that are built in; `/openapi.json`; and the way there from `/`.

use actix_web::{HttpResponse, http::header::LOCATION, web};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

pub(crate) fn configure(app: &mut web::ServiceConfig, document: &OpenApi) {
    let config = Config::default()
        .display_request_duration(true)
        .try_it_out_enabled(true)
        // The default one is somebody else's server.
        .validator_url("none");
    app.route("/", web::get().to(async || redirect("/docs")))
        .route("/docs", web::get().to(async || redirect("/docs/")))
        .service(
            SwaggerUi::new("/docs/{_:.*}")
                .url("/openapi.json", document.clone())
                .config(config),
        );
}

fn redirect(to: &'static str) -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header((LOCATION, to))
        .finish()
}
