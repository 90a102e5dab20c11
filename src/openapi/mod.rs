//! The OpenAPI document: its head, the ways to authenticate, and what follows from the form of an
//! operation, declared here once.

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
            2. **Create an API key** and copy `api_key` from the answer, and its `id`. The example makes a key \
            that may read orders, from this machine and one subnet, for 30 days.\n\
            3. Press *Authorize* again, paste it under `api_key`, and **call the protected endpoint**.\n\
            4. **Rotate the key**: the example gives the old one a day of grace, in which both are good.\n\
            5. **Change** the new key, or **revoke** it, and call again.\n\
            6. See in the **audit log** what you did.\n\n\
            Back ends **verify** their clients' keys with a key of their own that has the scope `keys:verify`, \
            which an admin gives; gateways ask at `/forward-auth`.\n\n\
            What stands under **operators** needs a role that allows it. The first admin is made on the \
            command line: `latchkey admin grant EMAIL`.\n\n\
            Errors are `application/problem+json` (RFC 9457); `code` is stable and machine-readable.",
    ),
    tags(
        (name = "accounts", description = "Sign up, log in, log out"),
        (name = "API keys", description = "Your own keys"),
        (name = "using a key", description = "What callers of a protected API do"),
        (name = "audit log", description = "What was changed, by whom"),
        (name = "operators", description = "Everybody's accounts and keys, and roles: for those whose role allows it"),
        (name = "health", description = "For load balancers and supervisors"),
    ),
    paths(forward_auth::forward_auth),
    components(schemas(Problem, FieldError, Granularity)),
)]
struct Head;

/// The whole document.
pub fn document() -> OpenApi {
    let (_, mut document) = App::new()
        .into_utoipa_app()
        .openapi(Head::openapi())
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
            // What is put need not be there.
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
    let user_token = OAuth2::with_description([login], "A person's token, from POST /auth/login");
    let key = ApiKeyValue::with_description("x-api-key", "A key from POST /api-keys");
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The same key, as many SDKs send it"))
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

/// The same with any other method that the document knows, each under a name of its own.
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

/// What leads from one page of a list to the next.
fn add_link_to_next_page(operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let is_cursor = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.name == "cursor");
    let page = operation.responses.responses.get_mut("200");
    if let (true, Some(RefOr::T(page))) = (parameters.iter().any(is_cursor), page) {
        let description = "`<…>; rel=\"next\"`, if there is a next page (RFC 8288)";
        page.headers
            .insert("Link".to_owned(), text_header(description).into());
    }
}

/// What the answers have that a key is let in for.
fn add_limits(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let is_limited = matches!(responses.get("429"), Some(RefOr::Ref(limit)) if limit.ref_location.ends_with("/LimitReached"));
    if let (true, Some(admitted)) = (is_limited, responses.get_mut("200")) {
        add_limit_headers(admitted);
    }
}

/// How it stands with the limits of the key.
fn add_limit_headers(response: &mut RefOr<Response>) {
    let RefOr::T(response) = response else { return };
    for (name, description) in [
        (
            "RateLimit-Policy",
            "If the key has limits: `\"key\";q=100;w=60, \"quota\";q=1000;w=86400`, so many in so many seconds \
             (draft-ietf-httpapi-ratelimit-headers)",
        ),
        (
            "RateLimit",
            "How it stands with them: `\"key\";r=73;t=12, \"quota\";r=5;t=3600`, so many are left, and all are there \
             again after so many seconds; after a 429, as many as were asked for",
        ),
    ] {
        let header = text_header(description).into();
        response.headers.insert(name.to_owned(), header);
    }
}

/// What every answer has.
fn add_request_id(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response {
        let description = "The request's own, if it sent a sane one";
        let header = text_header(description).into();
        response.headers.insert("X-Request-Id".to_owned(), header);
    }
}

fn text_header(description: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(Type::String));
    header.description = Some(description.to_owned());
    header
}
