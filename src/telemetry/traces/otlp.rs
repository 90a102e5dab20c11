//! How spans get to the collector: by blocking calls on the exporter's own thread.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig, TlsProvider},
};

/// How long a batch may take. Meanwhile others wait, up to the queue's bound.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// What is read of an answer at the most.
const MAX_ANSWER: u64 = 64 * 1024;

/// The collector's client. TLS is the OpenSSL that is built in for PostgreSQL.
#[derive(Debug)]
pub(super) struct Collector {
    agent: Agent,
    is_away: AtomicBool,
}

impl Collector {
    pub(super) fn new() -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::NativeTls)
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(SEND_WITHIN))
            .tls_config(tls)
            .build();
        Self {
            agent: config.into(),
            is_away: AtomicBool::new(false),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, body.to_vec());
        let (head, mut body) = self.agent.run(request)?.into_parts();
        let answer = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, answer.into()))
    }

    /// Says it once, and not with each batch.
    fn note(&self, sent: &Result<Response<Bytes>, ureq::Error>) {
        let trouble = match sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let was_away = self.is_away.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(cause) if !was_away => {
                tracing::warn!(
                    cause,
                    "the OpenTelemetry collector takes no traces: they are lost"
                );
            }
            None if was_away => tracing::info!("the OpenTelemetry collector takes traces again"),
            _ => {}
        }
    }
}

impl HttpClient for Collector {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let sent = self.send(request);
        self.note(&sent);
        let sent: Ready<Result<_, HttpError>> = ready(sent.map_err(Into::into));
        Box::pin(sent)
    }
}
