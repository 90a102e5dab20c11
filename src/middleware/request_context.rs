//! Outermost middleware, for every request and response: request id, error format, access log, metrics, trace, and
//! rules for browsers.

use std::{panic::AssertUnwindSafe, rc::Rc, task::Poll, time::Instant};

use actix_web::{
    Error as ActixError, HttpResponse,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        ConnectionType, Method, StatusCode,
        header::{HeaderMap, HeaderValue},
    },
    middleware::Next,
    web,
};
use futures_util::{FutureExt as _, future::Either};
use opentelemetry::trace::FutureExt as _;
use uuid::Uuid;

use super::{
    access_log::Line, browser_policy::BrowserPolicy, request_metrics::RequestMeter,
    server_span::ServerSpan, sliced_body::sliced,
};
use crate::{connection::state::ConnectionState, domain::error::Error, extract::REQUEST_ID};

/// Middleware to wrap the whole app with: `.wrap(from_fn(request_context))`. Adds the headers for browsers if the app
/// data contains a [`BrowserPolicy`].
pub async fn request_context<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<EitherBody<B>>>, ActixError> {
    let started = Instant::now();
    let connection_state = request.conn_data::<Rc<ConnectionState>>().cloned();
    if let Some(connection_state) = &connection_state {
        connection_state.app_started();
    }
    let id = RequestId::of(request.headers());
    // Other code reads the id from the request headers.
    request.headers_mut().insert(REQUEST_ID, id.value.clone());
    let policy = request.app_data::<web::Data<BrowserPolicy>>();
    let response_policy = policy.map(|policy| policy.response_policy(&request));
    let method = request.method().clone();
    if method == Method::HEAD {
        // RFC 9110 section 9.3.2: handle as GET. The connection omits the body.
        request.head_mut().method = Method::GET;
    }

    let meter = request.app_data::<RequestMeter>().cloned();
    // Before the handler is called: if it panics, the request no longer exists.
    let measured = meter.map(|meter| (meter.route(&request), meter));
    let span = ServerSpan::begin(&request, &method);
    let trace_id = span.as_ref().map(ServerSpan::trace_id);

    let preflight = response_policy
        .as_ref()
        .and_then(|policy| policy.preflight(&request));
    let response = async {
        match preflight {
            Some(preflight) => Ok(request.into_response(preflight.map_into_right_body())),
            None => next
                .call(request)
                .await
                .map(ServiceResponse::map_into_left_body),
        }
    };
    let response = match &span {
        Some(span) => Either::Left(response.with_context(span.context.clone())),
        None => Either::Right(response),
    };
    let result = AssertUnwindSafe(response).catch_unwind().await;
    consume_unread_body(connection_state.as_deref()).await;
    let line = |status, cause| {
        let took = started.elapsed();
        if let Some((route, meter)) = &measured {
            meter.observe(*route, &method, status, took);
        }
        if let Some(span) = &span {
            span.end(status);
        }
        Line {
            method: &method,
            status,
            took,
            request_id: &id.text,
            trace_id: trace_id.as_deref(),
            cause,
        }
    };
    let finish = |headers: &mut HeaderMap| {
        headers.insert(REQUEST_ID, id.value.clone());
        if let Some(policy) = response_policy {
            policy.apply(headers);
        }
    };
    match result {
        Ok(Ok(response)) => {
            let (mut response, error) = with_problem_body(response, &id.text);
            let cause = error.as_ref().and_then(Error::cause);
            line(response.status(), cause).write(response.request());
            finish(response.headers_mut());
            finish_response(connection_state.as_deref(), response.response_mut());
            let (request, response) = response.into_parts();
            Ok(ServiceResponse::new(request, sliced(response)))
        }
        // A `ServiceResponse` needs the request, which no longer exists. An error that contains a response reaches
        // the client all the same.
        failed => {
            let error = match &failed {
                Ok(Err(error)) => service_error(error)
                    .unwrap_or_else(|| Error::internal("the handler failed without a response")),
                _ => Error::Internal("the handler panicked".into()),
            };
            let mut response = error.respond(Some(&id.text));
            line(response.status(), error.cause()).write_without_request();
            finish(response.headers_mut());
            finish_response(connection_state.as_deref(), &mut response);
            Err(InternalError::from_response("", response).into())
        }
    }
}

/// Informs the connection state about the response. Adds `Connection: close` if it is the last one on the connection.
fn finish_response<B>(connection_state: Option<&ConnectionState>, response: &mut HttpResponse<B>) {
    // After a 408, the rest of the body may still arrive, as slowly as before.
    let close = response.status() == StatusCode::REQUEST_TIMEOUT;
    if connection_state.map_or(close, |c| c.responded(close, Instant::now())) {
        let head = response.head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
}

/// Lets the HTTP library consume a body that has arrived completely and that no handler has read. Otherwise the library
/// would close the connection when it gets the response, because it would still expect the body.
async fn consume_unread_body(connection_state: Option<&ConnectionState>) {
    if connection_state.is_some_and(ConnectionState::has_unread_body) {
        let mut has_waited = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Gives an error response the `application/problem+json` body, and returns the error: an [`Error`] of the service, or
/// the one that corresponds to a status without a body. A body that a handler wrote itself is kept.
fn with_problem_body<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    request_id: &str,
) -> (ServiceResponse<EitherBody<B>>, Option<Error>) {
    let raised = response.response().error();
    if let Some(error) = raised.and_then(service_error) {
        let body = serde_json::to_vec(&error.problem(Some(request_id))).unwrap_or_default();
        let response = response.map_body(|_, _| EitherBody::right(BoxBody::new(body)));
        return (response, Some(error));
    }
    let is_bare = raised.is_some() || response.response().body().size().is_eof();
    match Error::from_status(response.status()).filter(|_| is_bare) {
        Some(error) => {
            let problem = error.respond(Some(request_id)).map_into_right_body();
            let original = response.headers().clone();
            let mut response = response.into_response(problem);
            // The other headers of the original response still apply.
            let headers = response.headers_mut();
            let others = original
                .iter()
                .filter(|(name, _)| !headers.contains_key(*name));
            let others: Vec<_> = others
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            for (name, value) in others {
                headers.append(name, value);
            }
            (response, Some(error))
        }
        None => (response.map_into_left_body(), None),
    }
}

fn service_error(error: &ActixError) -> Option<Error> {
    error.as_error::<Error>().cloned()
}

/// Id of the request: the client's if it is well-formed, otherwise a new one.
struct RequestId {
    text: String,
    value: HeaderValue,
}

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let is_well_formed = |value: &&HeaderValue| {
            (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let given = headers.get(REQUEST_ID).filter(is_well_formed);
        let text = match given.and_then(|value| value.to_str().ok()) {
            Some(text) => text.to_owned(),
            None => Uuid::new_v4().to_string(),
        };
        // Visible ASCII is always a valid header value.
        let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("-"));
        Self { text, value }
    }
}
