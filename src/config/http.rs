//! Settings of the HTTP server: limits for clients, shutdown, and TLS.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    file_name::file_path,
    parse::{seconds, whole_number},
};

/// Settings of the HTTP server.
#[derive(Debug, Clone, Args)]
pub struct HttpConfig {
    /// Maximum size of a request line and headers together, in bytes. The response to a larger one is 431.
    #[arg(long = "max-head-bytes", env = "MAX_HEAD_BYTES", default_value_t = 32 * 1024,
          value_parser = whole_number::<usize>(1024..=128 * 1024))]
    pub max_header_bytes: usize,

    /// Maximum size of a request body, in bytes, including chunk extensions and trailers. The response to a larger
    /// one is 413.
    #[arg(long, env = "MAX_BODY_BYTES", default_value_t = BodyLimits::DEFAULT.bytes,
          value_parser = whole_number::<usize>(1024..=16 * 1024 * 1024))]
    pub max_body_bytes: usize,

    /// Time for a client to send the request line and headers, or to complete the TLS handshake, in seconds. After
    /// that the response is 408, and the connection is closed.
    #[arg(long = "head-seconds", env = "HEAD_SECONDS", default_value = "10",
          value_parser = seconds(1..=600))]
    pub header_timeout: Duration,

    /// Time for a client to send a request body, in seconds. After that the response is 408, and the connection is
    /// closed.
    #[arg(long = "body-seconds", env = "BODY_SECONDS", default_value = "10",
          value_parser = seconds(1..=600))]
    pub body_timeout: Duration,

    /// Time for a client to receive each 32 KiB of a response, in seconds. After that the connection is closed.
    #[arg(long = "answer-seconds", env = "ANSWER_SECONDS", default_value = "30",
          value_parser = seconds(1..=600))]
    pub response_timeout: Duration,

    /// Time that a connection may stay idle between requests, in seconds. Choose more than the idle timeout of a proxy
    /// in front, which may otherwise send a request on a connection that is being closed.
    #[arg(long = "keep-alive-seconds", env = "KEEP_ALIVE_SECONDS", default_value = "75",
          value_parser = seconds(1..=3600))]
    pub keep_alive: Duration,

    /// Maximum number of client connections. The response on further ones is 503.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = whole_number::<usize>(1..=1_000_000))]
    pub max_connections: usize,

    /// Maximum number of connections per client address (per /64 for IPv6). Trusted proxies are exempt.
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 1024,
          value_parser = whole_number::<usize>(1..=1_000_000))]
    pub max_connections_per_address: usize,

    /// Time for the whole shutdown, in seconds. The last part of it is reserved for writing pending data.
    #[arg(long = "shutdown-seconds", env = "SHUTDOWN_SECONDS", default_value = "10",
          value_parser = seconds(1..=3600))]
    pub shutdown_timeout: Duration,

    /// Time at the start of a shutdown in which new requests are still served, in seconds. `/health/ready` returns 503
    /// meanwhile, so that load balancers notice. At most half of SHUTDOWN_SECONDS.
    #[arg(long = "drain-seconds", env = "DRAIN_SECONDS", default_value = "1",
          value_parser = seconds(0..=1800))]
    pub drain_duration: Duration,

    #[command(flatten)]
    pub tls: TlsConfig,
}

/// TLS settings, for a service without a TLS proxy in front. Set both or neither.
#[derive(Debug, Clone, Args)]
pub struct TlsConfig {
    /// File with the certificate chain in PEM, the server's certificate first. Serves HTTPS instead of HTTP. Reloaded
    /// on SIGHUP [default: none].
    #[arg(long = "tls-cert", env = "TLS_CERT", value_parser = file_path())]
    pub certificate: Option<PathBuf>,

    /// File with the certificate's private key in PEM [default: none].
    #[arg(long = "tls-key", env = "TLS_KEY", value_parser = file_path())]
    pub key: Option<PathBuf>,
}

/// Limits of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Maximum size, in bytes.
    pub bytes: usize,
    /// Time to receive it.
    pub time: Duration,
}

impl BodyLimits {
    /// Limits that hold without a setting.
    pub const DEFAULT: Self = Self {
        bytes: 64 * 1024,
        time: Duration::from_secs(10),
    };
}

impl HttpConfig {
    pub fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            bytes: self.max_body_bytes,
            time: self.body_timeout,
        }
    }
}
