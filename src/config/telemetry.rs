//! Settings of metrics and traces.

use std::{fmt, net::SocketAddr, str::FromStr};

use super::parse::is_server_url;
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};

/// Settings of metrics and traces.
#[derive(Debug, Clone, Args)]
pub struct TelemetryConfig {
    /// Address and port of a separate listener that serves `GET /metrics` to Prometheus, such as 127.0.0.1:9464
    /// [default: none].
    #[arg(long, env = "METRICS_ADDR", value_parser = parse_metrics_addr)]
    pub metrics_addr: Option<SocketAddr>,

    /// Base URL of the OpenTelemetry collector that receives traces as OTLP over HTTP, such as http://localhost:4318
    /// [default: none].
    #[arg(
        id = "otlp_endpoint",
        long = "otel-exporter-otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub otlp_endpoint: OtlpEndpoint,

    /// Headers to send to the collector, as NAME=VALUE separated by commas, percent-encoded [default: none].
    #[arg(
        id = "otlp_headers",
        long = "otel-exporter-otlp-headers",
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub otlp_headers: OtlpHeaders,

    /// Name of the service in traces.
    #[arg(
        id = "otel_service_name",
        long = "otel-service-name",
        env = "OTEL_SERVICE_NAME",
        default_value = "latchkey"
    )]
    pub service_name: String,

    /// Sampler that selects the requests to trace. With `parentbased`, the caller's `traceparent` decides, if there is
    /// one.
    #[arg(id = "otel_traces_sampler", long = "otel-traces-sampler", env = "OTEL_TRACES_SAMPLER", value_enum,
          default_value_t = TracesSampler::ParentbasedAlwaysOn)]
    pub sampler: TracesSampler,

    /// Ratio of requests that are traced, 0.0 to 1.0, for the samplers that take a ratio.
    #[arg(id = "otel_traces_sampler_arg", long = "otel-traces-sampler-arg", env = "OTEL_TRACES_SAMPLER_ARG",
          default_value = "1.0", value_parser = parse_ratio)]
    pub sampler_ratio: f64,
}

/// Value of `OTEL_TRACES_SAMPLER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum TracesSampler {
    AlwaysOn,
    AlwaysOff,
    Traceidratio,
    ParentbasedAlwaysOn,
    ParentbasedAlwaysOff,
    ParentbasedTraceidratio,
}

/// Base URL of the collector that receives traces. It may contain a password.
///
/// An empty value means that none is set, as OpenTelemetry's specification demands.
#[derive(Clone, Default)]
pub struct OtlpEndpoint(Option<SecretString>);

impl OtlpEndpoint {
    /// Returns the URL to which traces are posted.
    pub(crate) fn traces_url(&self) -> Option<String> {
        let base = self.0.as_ref()?.expose_secret().trim_end_matches('/');
        Some(format!("{base}/v1/traces"))
    }
}

impl FromStr for OtlpEndpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let is_plain =
            text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['?', '#']);
        if is_plain && is_server_url(text, &["http", "https"]) {
            Ok(Self(Some(text.to_owned().into())))
        } else {
            Err(
                "must be the base URL of a collector that accepts OTLP over HTTP, such as http://localhost:4318",
            )
        }
    }
}

impl fmt::Debug for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtlpEndpoint([REDACTED])")
    }
}

/// Headers of each request to the collector. They often contain a token.
#[derive(Clone, Default)]
pub struct OtlpHeaders(Vec<(String, SecretString)>);

impl OtlpHeaders {
    /// Returns names and values. The values are still percent-encoded.
    pub(crate) fn expose(&self) -> impl Iterator<Item = (String, String)> {
        let headers = self.0.iter();
        headers.map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
    }
}

impl FromStr for OtlpHeaders {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pairs = text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        let headers = pairs.map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            let is_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
            let is_sane = !name.is_empty()
                && name.bytes().all(is_token)
                && value.bytes().all(|byte| byte.is_ascii_graphic());
            is_sane.then(|| (name.to_owned(), value.to_owned().into()))
        });
        headers
            .collect::<Option<_>>()
            .map(Self)
            .ok_or("must be NAME=VALUE separated by commas, percent-encoded, such as authorization=Bearer%20TOKEN")
    }
}

impl fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtlpHeaders([REDACTED])")
    }
}

fn parse_metrics_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an address and a port, such as 127.0.0.1:9464".to_owned())
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0.0 to 1.0".to_owned())
}
