//! Builds the OpenAPI document: general information, security schemes, and the parameters, headers and errors that
//! follow from the form of an operation.

mod shared_errors;

use actix_web::App;
use utoipa::{
    OpenApi as _,
    openapi::{
        Components, Header, ObjectBuilder, OpenApi, PathItem, RefOr, Response, Type,
        path::{Operation, Parameter},
        security::{
            ApiKey, ApiKeyValue, Flow, HttpAuthScheme, HttpBuilder, OAuth2, Password, Scopes,
            SecurityScheme,
        },
    },
};
use utoipa_actix_web::AppExt as _;

use crate::{
    domain::{
        error::{FieldError, Problem},
        usage::Granularity,
    },
    routes::{self, forward_auth},
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "latchkey",
        description = "API key management.\n\n\
            1. **Sign up**, then press *Authorize* and log in under `user_token`: e-mail address and password, nothing else.\n\
            2. **Create an API key** and copy `api_key` and `id` from the response. The example creates a key \
            that may read orders, from this machine and one subnet, for 30 days.\n\
            3. Press *Authorize* again, paste the key under `api_key`, and **call the protected endpoint**.\n\
            4. **Rotate the key**: in the example, the old key remains valid for a grace period of one day.\n\
            5. **Change** the new key, or **revoke** it, and call again.\n\
            6. Read your actions in the **audit log**.\n\n\
            Back ends **verify** their clients' keys with a key of their own that has the scope `keys:verify`, \
            which only an admin can grant. Gateways call `/forward-auth`.\n\n\
            Operations under **operators** require a role with the permission. Appoint the first admin on the \
            command line: `latchkey admin grant EMAIL`.\n\n\
            Errors are `application/problem+json` (RFC 9457); `code` is stable and machine-readable.",
    ),
    tags(
        (name = "accounts", description = "Sign up, log in, log out"),
        (name = "API keys", description = "Your own API keys"),
        (name = "using a key", description = "Calls that present or verify an API key"),
        (name = "audit log", description = "Changes, and who made them"),
        (name = "operators", description = "Accounts and keys of all users, and roles; requires permissions"),
        (name = "health", description = "For load balancers and supervisors"),
    ),
    paths(forward_auth::forward_auth),
    components(schemas(Problem, FieldError, Granularity)),
)]
struct BaseDocument;

/// Returns the OpenAPI document.
pub fn document() -> OpenApi {
    let (_, mut document) = App::new()
        .into_utoipa_app()
        .openapi(BaseDocument::openapi())
        .configure(routes::table)
        .split_for_parts();
    let components = document.components.get_or_insert_default();
    add_security_schemes(components);
    shared_errors::declare(components);
    if let Some(item) = document.paths.paths.get_mut("/forward-auth") {
        add_every_method(item);
    }
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            add_link_to_next_page(operation);
            shared_errors::add(path, operation);
            add_limits(operation);
            let responses = operation.responses.responses.values_mut();
            responses.for_each(add_request_id);
        }
        if let Some(put) = &mut item.put {
            // PUT creates what does not exist.
            put.responses.responses.remove("404");
        }
    }
    let shared = &mut document.components.get_or_insert_default().responses;
    shared.values_mut().for_each(add_request_id);
    for name in ["KeyNotAllowed", "LimitReached"] {
        shared.get_mut(name).into_iter().for_each(add_limit_headers);
    }
    document
}

fn add_security_schemes(components: &mut Components) {
    let login = Flow::Password(Password::new("/auth/login", Scopes::new()));
    let user_token = OAuth2::with_description([login], "User token from POST /auth/login");
    let key = ApiKeyValue::with_description("x-api-key", "API key from POST /api-keys");
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("API key in `Authorization`, as many SDKs send it"))
        .build();
    components.add_security_scheme("user_token", SecurityScheme::OAuth2(user_token));
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    components.add_security_scheme("api_key_bearer", SecurityScheme::Http(bearer));
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

/// Adds the operation under every other method that the document can describe, each with an operation id of its own.
fn add_every_method(item: &mut PathItem) {
    let Some(get) = item.get.clone() else { return };
    let with = |method: &str| {
        let mut operation = get.clone();
        let name = get.operation_id.as_deref().unwrap_or_default();
        operation.operation_id = Some(format!("{name}_{method}"));
        Some(operation)
    };
    item.post = with("post");
    item.put = with("put");
    item.patch = with("patch");
    item.delete = with("delete");
}

/// Documents the `Link` header, which refers to the next page of a list.
fn add_link_to_next_page(operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let is_cursor = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.name == "cursor");
    let page = operation.responses.responses.get_mut("200");
    if let (true, Some(RefOr::T(page))) = (parameters.iter().any(is_cursor), page) {
        let description =
            "Reference to the next page, if there is one: `<…>; rel=\"next\"` (RFC 8288)";
        page.headers
            .insert("Link".to_owned(), text_header(description).into());
    }
}

/// Documents the limit headers of an operation that requires an API key.
fn add_limits(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let is_limited = matches!(responses.get("429"), Some(RefOr::Ref(limit)) if limit.ref_location.ends_with("/LimitReached"));
    if let (true, Some(admitted)) = (is_limited, responses.get_mut("200")) {
        add_limit_headers(admitted);
    }
}

/// Documents the headers that show the status of the key's limits.
fn add_limit_headers(response: &mut RefOr<Response>) {
    let RefOr::T(response) = response else { return };
    for (name, description) in [
        (
            "RateLimit-Policy",
            "Limits of the key, if it has any: `\"key\";q=100;w=60, \"quota\";q=1000;w=86400`. `q` is the limit, `w` \
             the window in seconds (draft-ietf-httpapi-ratelimit-headers)",
        ),
        (
            "RateLimit",
            "Status of the limits: `\"key\";r=73;t=12, \"quota\";r=5;t=3600`. `r` is what remains, `t` the seconds \
             until the whole limit is available again; with a 429, until the requested cost is",
        ),
    ] {
        let header = text_header(description).into();
        response.headers.insert(name.to_owned(), header);
    }
}

/// Documents the header that every response has.
fn add_request_id(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response {
        let description = "Id of the request: the client's if it has 1 to 128 visible ASCII characters, else a new one";
        let header = text_header(description).into();
        response.headers.insert("X-Request-Id".to_owned(), header);
    }
}

fn text_header(description: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(Type::String));
    header.description = Some(description.to_owned());
    header
}
