//! `latchkey health`: checks the health of the server that has the same settings. For containers and supervisors
//! without another HTTP client.

use std::{io::Write as _, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::probe::{self, ServerUrl};
use crate::server::StartError;

#[derive(Args)]
pub(super) struct Health {
    /// Check only that the process is alive, not that it is ready.
    #[arg(long)]
    live: bool,

    /// Check only that it is ready for this kind of requests.
    #[arg(long = "for", value_enum, conflicts_with = "live")]
    purpose: Option<Purpose>,

    /// URL of the server, as http://HOST:PORT or https://HOST:PORT [default: HOST and PORT on this machine, with TLS
    /// if TLS_CERT is set].
    #[arg(long)]
    url: Option<ServerUrl>,

    /// Time for the response, in seconds, 1 to 300. The server takes five to find that its database is unreachable.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout_seconds: u64,

    /// Address on which the server listens.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: String,

    /// Port on which the server listens.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,

    /// Set if the server serves HTTPS itself. The file is not read.
    #[arg(long, env = "TLS_CERT")]
    tls_cert: Option<PathBuf>,
}

/// Kind of requests.
#[derive(Clone, Copy, ValueEnum)]
enum Purpose {
    /// Checks of API keys.
    Checks,
}

pub(super) fn run(options: Health) -> Result<(), StartError> {
    let path = match options.purpose {
        Some(Purpose::Checks) => "/health/ready?for=checks",
        None if options.live => "/health/live",
        None => "/health/ready",
    };
    let timeout = Duration::from_secs(options.timeout_seconds);
    let server = options.server()?;
    match probe::status(&server, path, timeout) {
        Ok(200) => writeln!(std::io::stdout(), "{server}{path} returned 200").map_err(failed),
        Ok(status) => Err(failed(format!("{server}{path} returned {status}"))),
        Err(ureq::Error::Timeout(_)) => {
            Err(failed(format!("{server}{path} did not respond: timed out")))
        }
        Err(error) => Err(failed(format!("{server}{path} did not respond: {error}"))),
    }
}

impl Health {
    fn server(self) -> Result<ServerUrl, StartError> {
        if let Some(url) = self.url {
            return Ok(url);
        }
        if self.port == 0 {
            return Err(StartError::Setting(
                "PORT (--port) is 0, which selects a free port; give the URL of the server with --url".into(),
            ));
        }
        let host = match self.host.as_str() {
            // A server that listens on every address also listens on the loopback address.
            "0.0.0.0" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            address if address.contains(':') => format!("[{address}]"),
            name => name.to_owned(),
        };
        Ok(ServerUrl {
            tls: self.tls_cert.is_some(),
            host,
            port: self.port,
        })
    }
}

fn failed(reason: impl ToString) -> StartError {
    StartError::Environment(reason.to_string())
}
