//! Traces, for an OpenTelemetry collector if there is one. Where there is none, each place that could
//! begin a span asks once whether it should, and goes on.

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

/// How long the end of the process waits for the collector to take what is left.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Sends what is traced; when dropped, what is left, for a bounded time.
pub struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        // The collector is away: what is left is lost, and that was logged.
        let _ = self.0.shutdown_with_timeout(FLUSH_WITHIN);
    }
}

/// What the exporter said is not repeated: it may hold the endpoint, and that a password.
#[derive(Debug, thiserror::Error)]
#[error(
    "OTEL_EXPORTER_OTLP_ENDPOINT (--otel-exporter-otlp-endpoint), or another setting of OTEL_EXPORTER_OTLP, cannot \
     be used; give the base URL of a collector that takes OTLP over HTTP, such as http://localhost:4318"
)]
pub struct NoCollector;

/// Begins to trace, for the whole process, if the settings name a collector. At most a fixed number of
/// spans wait for it, on a thread of their own; further ones are dropped.
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
    // Once in a process: the first one stays.
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

/// Whether anything is traced.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// Begins a span, if anything is traced. It ends when the last clone of the context is dropped, or is
/// told to.
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

/// Does something within a span of its own, as a part of the request that it is done for, if that is
/// traced.
pub async fn within<T, E>(
    kind: SpanKind,
    name: &'static str,
    attribute: impl FnOnce() -> KeyValue,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let is_part = || Context::map_current(|current| current.has_active_span());
    if !is_on() || !is_part() {
        return work.await;
    }
    let Some(context) = begin(&Context::current(), kind, name, [attribute()]) else {
        return work.await;
    };
    let done = work.with_context(context.clone()).await;
    if done.is_err() {
        // Why goes to the log.
        context.span().set_status(Status::error(""));
    }
    context.span().end();
    done
}

/// What is done elsewhere as a part of the same request.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let context = is_on().then(Context::current);
    async move {
        match context {
            Some(context) => work.with_context(context).await,
            None => work.await,
        }
    }
}
