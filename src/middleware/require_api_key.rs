//! Lets a request in only with a good API key.

use std::{
    future::{Ready, ready},
    rc::Rc,
};

use actix_web::{
    Error as ActixError, HttpMessage as _,
    body::EitherBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    web,
};
use futures_util::future::LocalBoxFuture;

use crate::{
    core::error::{Credential, Error},
    extract::credentials::{Presented, presented},
    verification::engine::{Engine, VerifiedKey},
};

/// Guards everything that it wraps: an app, a scope, a resource or a route.
///
/// The key is taken from `x-api-key` or `Authorization: Bearer`; the [`Engine`] in the app's data
/// decides about it; the handler finds it as a [`VerifiedKey`]. A request without a good key is
/// answered 401, and 503 when nobody can tell. An app that holds no engine answers 500.
///
/// It has no exceptions, for paths or methods. To have the router's 404 and 405 answer before it,
/// put it on the route itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequireApiKey;

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
        }))
    }
}

/// A service behind [`RequireApiKey`].
pub struct Guarded<S> {
    inner: Rc<S>,
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
        let inner = self.inner.clone();
        Box::pin(async move {
            match verify(&request).await {
                Ok(key) => {
                    request.extensions_mut().insert(key);
                    inner
                        .call(request)
                        .await
                        .map(ServiceResponse::map_into_left_body)
                }
                Err(error) => Ok(request.error_response(error).map_into_right_body()),
            }
        })
    }
}

async fn verify(request: &ServiceRequest) -> Result<VerifiedKey, Error> {
    let (Presented::KeyHeader(key) | Presented::Bearer(key)) =
        presented(request.headers())?.ok_or(Error::MissingCredentials(Credential::ApiKey))?;
    let engine = request
        .app_data::<web::Data<Engine>>()
        .ok_or_else(|| Error::internal("RequireApiKey in an app without an engine"))?;
    engine.verify(key).await?.map_err(|refusal| {
        request.extensions_mut().insert(refusal);
        Error::InvalidApiKey
    })
}
