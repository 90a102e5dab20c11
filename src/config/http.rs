//! How HTTP is served: what a client may take of the service, how it stops, and TLS.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::parse::{seconds, whole_number};
use crate::config::file_name::file_path;

/// How HTTP is served.
#[derive(Debug, Clone, Args)]
pub struct HttpConfig {
    /// The largest head of a request, its first line and headers, in bytes. More is answered 431.
    #[arg(long, env = "MAX_HEAD_BYTES", default_value_t = 32 * 1024,
          value_parser = whole_number::<usize>(1024..=128 * 1024))]
    pub max_head_bytes: usize,

    /// The largest body of a request, in bytes, with chunk extensions and trailers. More is answered 413.
    #[arg(long, env = "MAX_BODY_BYTES", default_value_t = BodyLimits::DEFAULT.bytes,
          value_parser = whole_number::<usize>(1024..=16 * 1024 * 1024))]
    pub max_body_bytes: usize,

    /// How long a client may take to send a head, in seconds, or to shake hands for TLS. A slower one
    /// is answered 408 and cut off.
    #[arg(long = "head-seconds", env = "HEAD_SECONDS", default_value = "10",
          value_parser = seconds(1..=600))]
    pub head_time: Duration,

    /// How long it may take to send a body, in seconds. A slower one is answered 408 and cut off.
    #[arg(long = "body-seconds", env = "BODY_SECONDS", default_value = "10",
          value_parser = seconds(1..=600))]
    pub body_time: Duration,

    /// How long it may take to receive each 32 KiB of an answer, in seconds. A slower one is cut off.
    #[arg(long = "answer-seconds", env = "ANSWER_SECONDS", default_value = "30",
          value_parser = seconds(1..=600))]
    pub answer_time: Duration,

    /// How long a connection may wait for its next request, in seconds. Longer than a proxy in front
    /// keeps connections, or that may send a request just when it is too late.
    #[arg(long = "keep-alive-seconds", env = "KEEP_ALIVE_SECONDS", default_value = "75",
          value_parser = seconds(1..=3600))]
    pub keep_alive: Duration,

    /// ConnectionCounters at the most. Past it new ones are answered 503.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = whole_number::<usize>(1..=1_000_000))]
    pub max_connections: usize,

    /// ConnectionCounters at the most from one client address (of IPv6, one /64). Of trusted proxies there is
    /// no such limit.
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 1024,
          value_parser = whole_number::<usize>(1..=1_000_000))]
    pub max_connections_per_address: usize,

    /// How long an orderly stop may take in all, in seconds. The end of it is for what is still to be
    /// written.
    #[arg(long = "shutdown-seconds", env = "SHUTDOWN_SECONDS", default_value = "10",
          value_parser = seconds(1..=3600))]
    pub shutdown_time: Duration,

    /// How long new requests are still served after the order to stop, in seconds, while
    /// `/health/ready` says 503, so that load balancers notice. At most half of SHUTDOWN_SECONDS.
    #[arg(long = "drain-seconds", env = "DRAIN_SECONDS", default_value = "1",
          value_parser = seconds(0..=1800))]
    pub drain_time: Duration,

    #[command(flatten)]
    pub tls: TlsConfig,
}

/// TLS, for those without a proxy that has it. Both or neither.
#[derive(Debug, Clone, Args)]
pub struct TlsConfig {
    /// Certificates in PEM, the server's first: HTTPS is served instead of HTTP. Read again on SIGHUP
    /// [default: none].
    #[arg(long = "tls-cert", env = "TLS_CERT", value_parser = file_path())]
    pub certificate: Option<PathBuf>,

    /// The certificate's private key in PEM [default: none].
    #[arg(long = "tls-key", env = "TLS_KEY", value_parser = file_path())]
    pub key: Option<PathBuf>,
}

/// What a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// How long, in bytes.
    pub bytes: usize,
    /// How long it may take to come.
    pub time: Duration,
}

impl BodyLimits {
    /// Where there is no setting.
    pub const DEFAULT: Self = Self {
        bytes: 64 * 1024,
        time: Duration::from_secs(10),
    };
}

impl HttpConfig {
    pub fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            bytes: self.max_body_bytes,
            time: self.body_time,
        }
    }
}
