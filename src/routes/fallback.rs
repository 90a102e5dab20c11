//! Response where no route matches: 405 if the path has other methods, otherwise 404.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::OpenApi;

use crate::domain::error::Error;

/// Methods of each documented path, in the format of the `Allow` header (RFC 9110 section 10.2.1).
pub(crate) struct AllowedMethods(HashMap<String, String>);

/// Methods of the pages that are not in the OpenAPI document: `/`, `/docs` and the document itself.
const PAGE_METHODS: &str = "GET, HEAD";

impl AllowedMethods {
    pub(crate) fn of(document: &OpenApi) -> Self {
        let paths = document.paths.paths.iter();
        let allowed = paths.map(|(path, item)| {
            let methods = [
                ("GET, HEAD", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            let methods: Vec<_> = methods
                .into_iter()
                .filter_map(|(name, operation)| operation.is_some().then_some(name))
                .collect();
            (path.clone(), methods.join(", "))
        });
        Self(allowed.collect())
    }
}

pub(crate) async fn no_such_route(
    request: HttpRequest,
    allowed: web::Data<AllowedMethods>,
) -> Result<HttpResponse, Error> {
    // `match_pattern` compares the path only, not the method.
    let pattern = request.match_pattern().ok_or(Error::NotFound)?;
    let methods = allowed.0.get(&pattern).map_or(PAGE_METHODS, String::as_str);
    Err(Error::MethodNotAllowed(methods.to_owned()))
}
