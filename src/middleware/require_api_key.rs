//! Lets a request in only with a good API key.

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
    extract::{admit, tell_limits},
    verification::limits::LimitStatus,
};

/// Guards everything that it wraps: an app, a scope, a resource or a route.
///
/// The key is taken from `x-api-key` or `Authorization: Bearer`; the [`Engine`](crate::verification::engine::Engine) in the app's data
/// decides about it; the handler finds it as a
/// [`VerifiedKey`](crate::verification::engine::VerifiedKey). A request without a good key is
/// answered 401; with a good one that is not meant for this, 403; with one that was used too often, 429;
/// and 503 when nobody can tell. An app that holds no engine answers 500. Each answer to a key that has
/// limits says how it stands with them, in `RateLimit-Policy` and `RateLimit`.
///
/// The client's address is that of the connection, or the one that the
/// [`TrustedProxies`](crate::domain::network::TrustedProxies) in the app's data vouch for.
///
/// It has no exceptions, for paths or methods. To have the router's 404 and 405 answer before it,
/// put it on the route itself.
///
/// ```
/// use latchkey::middleware::RequireApiKey;
///
/// let any_good_key = RequireApiKey::new();
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
    /// Any good key will do.
    pub fn new() -> Self {
        Self::default()
    }

    /// A good key that has this scope.
    ///
    /// # Panics
    ///
    /// If it is no scope: nothing must start with a guard that means something else than it says.
    pub fn scope(scope: &str) -> Self {
        Self::scopes([scope])
    }

    /// A good key that has all of these scopes.
    ///
    /// # Panics
    ///
    /// If one of them is no scope.
    pub fn scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let parse = |scope| match Scope::parse(scope) {
            Ok(parsed) => parsed,
            Err(remedy) => panic!("the scope {scope:?} {remedy}"),
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

/// A service behind [`RequireApiKey`].
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
                tell_limits(response.headers_mut(), &status);
            }
            Ok(response)
        })
    }
}
