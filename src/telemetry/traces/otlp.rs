//! HTTP client that sends spans to the collector, by blocking calls on the exporter's own thread.

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

/// Time to send a batch. Other batches wait meanwhile, up to the bound of the queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes that are read of a response.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;

/// Client of the collector. TLS uses the OpenSSL that is built in for PostgreSQL.
#[derive(Debug)]
pub(super) struct Collector {
    agent: Agent,
    is_failing: AtomicBool,
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
            .timeout_global(Some(SEND_TIMEOUT))
            .tls_config(tls)
            .build();
        Self {
            agent: config.into(),
            is_failing: AtomicBool::new(false),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.to_vec());
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let bytes = body.with_config().limit(MAX_RESPONSE_BYTES).read_to_vec()?;
        Ok(Response::from_parts(parts, bytes.into()))
    }

    /// Logs when sending starts to fail and when it works again, not for each batch.
    fn log_change(&self, sent: &Result<Response<Bytes>, ureq::Error>) {
        let problem = match sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the response was {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let was_failing = self.is_failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(cause) if !was_failing => {
                tracing::warn!(
                    cause,
                    "the OpenTelemetry collector does not accept traces: they are lost"
                );
            }
            None if was_failing => {
                tracing::info!("the OpenTelemetry collector accepts traces again")
            }
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
        self.log_change(&sent);
        let sent: Ready<Result<_, HttpError>> = ready(sent.map_err(Into::into));
        Box::pin(sent)
    }
}
