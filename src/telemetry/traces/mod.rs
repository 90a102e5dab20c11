//! Traces for an OpenTelemetry collector. Without a collector, each place that could begin a span costs one check.

mod otlp;

use std::{borrow::Cow, sync::OnceLock, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{
        FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};

use self::otlp::Collector;
use crate::config::{TelemetryConfig, TracesSampler};

/// Time for the collector to receive the remaining spans when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Exporter of spans. When dropped, it sends the remaining spans, for a bounded time.
pub struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        // On failure, the remaining spans are lost. The exporter's client has logged that the collector is unreachable.
        let _ = self.0.shutdown_with_timeout(FLUSH_TIMEOUT);
    }
}

/// Error raised when the collector's settings are invalid. The exporter's own message is omitted: it may contain the
/// endpoint, and that a password.
#[derive(Debug, thiserror::Error)]
#[error(
    "OTEL_EXPORTER_OTLP_ENDPOINT (--otel-exporter-otlp-endpoint) or another OTEL_EXPORTER_OTLP setting is invalid; \
     give the base URL of a collector that accepts OTLP over HTTP, such as http://localhost:4318"
)]
pub struct NoCollector;

/// Starts tracing for the whole process, if the settings name a collector.
///
/// A separate thread sends the spans. A bounded number of them waits for the collector; further ones are dropped.
pub fn start(config: &TelemetryConfig) -> Result<Option<Traces>, NoCollector> {
    let Some(url) = config.otlp_endpoint.traces_url() else {
        return Ok(None);
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(url)
        .with_headers(config.otlp_headers.expose().collect())
        .with_http_client(Collector::new())
        .build()
        .map_err(|_| NoCollector)?;
    let name = match config.service_name.as_str() {
        "" => env!("CARGO_PKG_NAME"),
        name => name,
    };
    let resource = Resource::builder()
        .with_service_name(name.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler(config))
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();
    // At most one tracer per process: the first one stays.
    let _ = TRACER.set(provider.tracer(env!("CARGO_PKG_NAME")));
    Ok(Some(Traces(provider)))
}

fn sampler(config: &TelemetryConfig) -> Sampler {
    let ratio = Sampler::TraceIdRatioBased(config.sampler_ratio);
    let by_parent = |sampler| Sampler::ParentBased(Box::new(sampler));
    match config.sampler {
        TracesSampler::AlwaysOn => Sampler::AlwaysOn,
        TracesSampler::AlwaysOff => Sampler::AlwaysOff,
        TracesSampler::Traceidratio => ratio,
        TracesSampler::ParentbasedAlwaysOn => by_parent(Sampler::AlwaysOn),
        TracesSampler::ParentbasedAlwaysOff => by_parent(Sampler::AlwaysOff),
        TracesSampler::ParentbasedTraceidratio => by_parent(ratio),
    }
}

/// Returns whether tracing is on.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// Begins a span, if tracing is on. It ends when the last clone of the context is dropped, or when it is ended
/// explicitly.
pub fn begin(
    parent: &Context,
    kind: SpanKind,
    name: impl Into<Cow<'static, str>>,
    attributes: impl IntoIterator<Item = KeyValue>,
) -> Option<Context> {
    let tracer = TRACER.get()?;
    let span = tracer
        .span_builder(name)
        .with_kind(kind)
        .with_attributes(attributes);
    Some(parent.with_span(tracer.build_with_context(span, parent)))
}

/// Runs `work` in a span of its own, as a child of the current request's span, if that request is traced.
pub async fn in_span<T, E>(
    kind: SpanKind,
    name: &'static str,
    attribute: impl FnOnce() -> KeyValue,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let is_traced = || Context::map_current(|current| current.has_active_span());
    if !is_on() || !is_traced() {
        return work.await;
    }
    let Some(context) = begin(&Context::current(), kind, name, [attribute()]) else {
        return work.await;
    };
    let result = work.with_context(context.clone()).await;
    if result.is_err() {
        // The cause is logged, not traced.
        context.span().set_status(Status::error(""));
    }
    context.span().end();
    result
}

/// Carries the current request's span into work that runs in another task.
pub fn with_current_span<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let context = is_on().then(Context::current);
    async move {
        match context {
            Some(context) => work.with_context(context).await,
            None => work.await,
        }
    }
}
