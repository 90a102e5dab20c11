//! Middleware that rejects requests without a valid API key.

use std::{
    future::{Ready, ready},
    rc::Rc,
    sync::Arc,
};

use actix_web::{
    Error as ActixError, HttpMessage as _,
    body::EitherBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
};
use futures_util::future::LocalBoxFuture;

use crate::{
    domain::scope::Scope,
    extract::{admit, insert_limit_headers},
    verification::limits::LimitStatus,
};

/// Requires a valid API key for everything that it wraps: an app, a scope, a resource or a route.
///
/// The key is read from `x-api-key` or `Authorization: Bearer`. The
/// [`Engine`](crate::verification::engine::Engine) in the app data verifies it. The handler can take it as an argument
/// of the type [`VerifiedKey`](crate::verification::engine::VerifiedKey).
///
/// | request | response |
/// |---|---|
/// | no valid key | 401 |
/// | two different credentials | 400 |
/// | a scope is missing, or the client's address is not in the allowlist | 403 |
/// | the rate limit or the quota of the key is exhausted | 429 |
/// | the key cannot be verified at present | 503 |
/// | the app data contains no engine | 500 |
///
/// Every response to a key with limits has their status in `RateLimit-Policy` and `RateLimit`.
///
/// The client's address is that of the connection, or the one that the
/// [`TrustedProxies`](crate::domain::network::TrustedProxies) in the app data report.
///
/// There are no exceptions for paths or methods. For the router's 404 and 405 to come first, wrap the route itself.
///
/// ```
/// use latchkey::middleware::RequireApiKey;
///
/// let any_valid_key = RequireApiKey::new();
/// let only_readers = RequireApiKey::scope("orders:read");
/// let both = RequireApiKey::scopes(["orders:read", "invoices:read"]);
/// ```
#[derive(Debug, Clone)]
pub struct RequireApiKey {
    scopes: Arc<[Scope]>,
}

impl Default for RequireApiKey {
    fn default() -> Self {
        Self::scopes([])
    }
}

impl RequireApiKey {
    /// Requires any valid key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires a valid key with this scope.
    ///
    /// # Panics
    ///
    /// Panics if the text is not a scope: no service must start with a check that differs from the intended one.
    pub fn scope(scope: &str) -> Self {
        Self::scopes([scope])
    }

    /// Requires a valid key with all of these scopes.
    ///
    /// # Panics
    ///
    /// Panics if one of the texts is not a scope.
    pub fn scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let parse = |scope| match Scope::parse(scope) {
            Ok(parsed) => parsed,
            Err(remedy) => panic!("invalid scope {scope:?}: {remedy}"),
        };
        Self {
            scopes: scopes.into_iter().map(parse).collect(),
        }
    }
}

impl<S, B> Transform<S, ServiceRequest> for RequireApiKey
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError> + 'static,
    B: 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = ActixError;
    type InitError = ();
    type Transform = Guarded<S>;
    type Future = Ready<Result<Guarded<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(Guarded {
            inner: Rc::new(inner),
            scopes: self.scopes.clone(),
        }))
    }
}

/// Service behind [`RequireApiKey`].
pub struct Guarded<S> {
    inner: Rc<S>,
    scopes: Arc<[Scope]>,
}

impl<S, B> Service<ServiceRequest> for Guarded<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError> + 'static,
    B: 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = ActixError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_web::dev::forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (inner, scopes) = (self.inner.clone(), self.scopes.clone());
        Box::pin(async move {
            let admitted = admit(request.request(), &scopes, 1).await;
            let status = request.extensions().get::<LimitStatus>().copied();
            let mut response = match admitted {
                Ok(_) => inner.call(request).await?.map_into_left_body(),
                Err(error) => request.error_response(error).map_into_right_body(),
            };
            if let Some(status) = status {
                insert_limit_headers(response.headers_mut(), &status);
            }
            Ok(response)
        })
    }
}
