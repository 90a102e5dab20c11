//! Handlers of `/docs` (Swagger UI, from files that are built in), `/openapi.json`, and the redirect from `/`.

use std::{borrow::Cow, collections::HashMap, io, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderValue, LOCATION},
    web::{self, Bytes},
};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use super::static_document::StaticDocument;
use crate::domain::error::Error;

/// Files of Swagger UI that its page loads or may open.
const FILES: [&str; 10] = [
    "index.html",
    "index.css",
    "swagger-initializer.js",
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "favicon-16x16.png",
    "favicon-32x32.png",
    "oauth2-redirect.html",
    "oauth2-redirect.js",
];

/// Pages and documents that are generated once, at startup.
pub(crate) struct Documents {
    openapi: StaticDocument,
    swagger_ui: HashMap<&'static str, StaticDocument>,
}

impl Documents {
    pub(crate) fn new(document: &OpenApi) -> io::Result<Self> {
        let openapi = StaticDocument::compress(
            document.to_json()?.into_bytes(),
            HeaderValue::from_static("application/json"),
        )?;
        let config = Config::from("/openapi.json")
            .display_request_duration(true)
            .try_it_out_enabled(true)
            // The default validator is a third party's server.
            .validator_url("none");
        let config = Arc::new(config);
        let files = FILES.map(|name| Ok((name, swagger_ui_file(name, config.clone())?)));
        Ok(Self {
            openapi,
            swagger_ui: files.into_iter().collect::<io::Result<_>>()?,
        })
    }
}

/// Returns a file of Swagger UI. All files but the one with the settings are compressed at build time.
fn swagger_ui_file(name: &str, config: Arc<Config<'static>>) -> io::Result<StaticDocument> {
    let file = utoipa_swagger_ui::serve(name, config)
        .map_err(|error| io::Error::other(error.to_string()))?
        .ok_or_else(|| io::Error::other(format!("Swagger UI has no {name}")))?;
    let content_type = HeaderValue::from_str(&file.content_type).map_err(io::Error::other)?;
    match (file.gzpipped, file.bytes) {
        (false, bytes) => StaticDocument::compress(bytes.into_owned(), content_type),
        (true, Cow::Borrowed(bytes)) => Ok(StaticDocument::compressed(
            Bytes::from_static(bytes),
            content_type,
        )),
        (true, Cow::Owned(bytes)) => Ok(StaticDocument::compressed(bytes.into(), content_type)),
    }
}

pub(crate) fn configure(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(async || redirect("/docs")))
        .route("/docs", web::get().to(async || redirect("/docs/")))
        .route("/docs/{file:.*}", web::get().to(swagger_ui))
        .route("/openapi.json", web::get().to(openapi));
}

fn redirect(to: &'static str) -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header((LOCATION, to))
        .finish()
}

async fn openapi(
    request: HttpRequest,
    documents: web::Data<Documents>,
) -> Result<HttpResponse, Error> {
    documents.openapi.respond(&request).await
}

async fn swagger_ui(
    request: HttpRequest,
    file: web::Path<String>,
    documents: web::Data<Documents>,
) -> Result<HttpResponse, Error> {
    let name = match file.as_str() {
        "" => "index.html",
        name => name,
    };
    let document = documents.swagger_ui.get(name).ok_or(Error::NotFound)?;
    document.respond(&request).await
}
