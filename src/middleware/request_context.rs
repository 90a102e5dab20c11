//! What every request and every answer has: an id, the contract's form of errors, a line in the log, and what
//! browsers are told.

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

use crate::middleware::{
    access_log::Line, browser_policy::BrowserPolicy, request_metrics::RequestMeter,
    server_span::ServerSpan, sliced_body::sliced,
};
use crate::{connection::state::ConnectionState, domain::error::Error, extract::REQUEST_ID};

/// Goes outermost around the app: `.wrap(from_fn(request_context))`. Browsers are told what the
/// [`BrowserPolicy`] in the app's data says; where there is none, nothing.
pub async fn request_context<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<EitherBody<B>>>, ActixError> {
    let started = Instant::now();
    let connection_state = request.conn_data::<Rc<ConnectionState>>().cloned();
    if let Some(connection_state) = &connection_state {
        connection_state.begun();
    }
    let id = RequestId::of(request.headers());
    // Whoever wants to know it reads it there.
    request.headers_mut().insert(REQUEST_ID, id.value.clone());
    let policy = request.app_data::<web::Data<BrowserPolicy>>();
    let terms = policy.map(|policy| policy.terms(&request));
    let method = request.method().clone();
    if method == Method::HEAD {
        // RFC 9110 section 9.3.2: as GET, and the connection leaves the body out.
        request.head_mut().method = Method::GET;
    }

    let meter = request.app_data::<RequestMeter>().cloned();
    // Known beforehand: of a request whose handler panics nothing is left.
    let measured = meter.map(|meter| (meter.route(&request), meter));
    let span = ServerSpan::begin(&request, &method);
    let trace_id = span.as_ref().map(ServerSpan::trace_id);

    let preflight = terms.as_ref().and_then(|terms| terms.preflight(&request));
    let answer = async {
        match preflight {
            Some(answer) => Ok(request.into_response(answer.map_into_right_body())),
            None => next
                .call(request)
                .await
                .map(ServiceResponse::map_into_left_body),
        }
    };
    let answer = match &span {
        Some(span) => Either::Left(answer.with_context(span.context.clone())),
        None => Either::Right(answer),
    };
    let answered = AssertUnwindSafe(answer).catch_unwind().await;
    pass_over_body(connection_state.as_deref()).await;
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
        if let Some(terms) = terms {
            terms.tell(headers);
        }
    };
    match answered {
        Ok(Ok(response)) => {
            let (mut response, error) = in_contract_form(response, &id.text);
            let cause = error.as_ref().and_then(Error::cause);
            line(response.status(), cause).write(response.request());
            finish(response.headers_mut());
            end_turn(connection_state.as_deref(), response.response_mut());
            let (request, response) = response.into_parts();
            Ok(ServiceResponse::new(request, sliced(response)))
        }
        // Nothing is left of the request, which a response would need. An error that holds a whole
        // response gets through all the same.
        failed => {
            let error = match &failed {
                Ok(Err(error)) => own(error).unwrap_or_else(|| Error::internal("no response")),
                _ => Error::Internal("the handler panicked".into()),
            };
            let mut response = error.respond(Some(&id.text));
            line(response.status(), error.cause()).write_without_request();
            finish(response.headers_mut());
            end_turn(connection_state.as_deref(), &mut response);
            Err(InternalError::from_response("", response).into())
        }
    }
}

/// Tells the connection that there is an answer, and the client if it is the last one.
fn end_turn<B>(connection_state: Option<&ConnectionState>, response: &mut HttpResponse<B>) {
    // The rest of the body may still come, at the same pace.
    let close = response.status() == StatusCode::REQUEST_TIMEOUT;
    if connection_state.map_or(close, |c| c.answered(close, Instant::now())) {
        let head = response.head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
}

/// Lets the HTTP library take in a body that has arrived whole and that nobody read. It decides when it gets the
/// response: had it not, it would end the connection for want of the rest.
async fn pass_over_body(connection_state: Option<&ConnectionState>) {
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

/// Gives an error the contract's body and tells which it was: an error of ours, or a bare status. What
/// a handler chose to say itself stays.
fn in_contract_form<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    request_id: &str,
) -> (ServiceResponse<EitherBody<B>>, Option<Error>) {
    let raised = response.response().error();
    if let Some(error) = raised.and_then(own) {
        let body = serde_json::to_vec(&error.problem(Some(request_id))).unwrap_or_default();
        let response = response.map_body(|_, _| EitherBody::right(BoxBody::new(body)));
        return (response, Some(error));
    }
    let is_bare = raised.is_some() || response.response().body().size().is_eof();
    match Error::from_status(response.status()).filter(|_| is_bare) {
        Some(error) => {
            let problem = error.respond(Some(request_id)).map_into_right_body();
            let said = response.headers().clone();
            let mut response = response.into_response(problem);
            // What else was said with it still holds.
            let headers = response.headers_mut();
            let others = said.iter().filter(|(name, _)| !headers.contains_key(*name));
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

fn own(error: &ActixError) -> Option<Error> {
    error.as_error::<Error>().cloned()
}

/// The caller's id for the request, if it sent a sane one, else one of ours.
struct RequestId {
    text: String,
    value: HeaderValue,
}

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let sane = |value: &&HeaderValue| {
            (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let given = headers.get(REQUEST_ID).filter(sane);
        let text = match given.and_then(|value| value.to_str().ok()) {
            Some(text) => text.to_owned(),
            None => Uuid::new_v4().to_string(),
        };
        // Visible ASCII is a header value.
        let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("-"));
        Self { text, value }
    }
}
