//! `latchkey health`: asks the server of the same settings whether it is well. For containers and
//! supervisors that have no other HTTP client.

use std::{io::Write as _, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    cli::probe::{self, ServerUrl},
    server::StartError,
};

#[derive(Args)]
pub(super) struct Health {
    /// Ask whether the process lives, and not whether it can answer.
    #[arg(long)]
    live: bool,

    /// Ask whether it can answer these requests, and not whether it can answer all.
    #[arg(long = "for", value_enum, conflicts_with = "live")]
    purpose: Option<Purpose>,

    /// The server, as http://HOST:PORT or https://HOST:PORT [default: that of HOST and PORT on this
    /// machine, with TLS if TLS_CERT is set].
    #[arg(long)]
    url: Option<ServerUrl>,

    /// How long the answer may take, in seconds, 1 to 300. A database that is out of reach takes five.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout_seconds: u64,

    /// Address that the server listens on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: String,

    /// Port that the server listens on.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,

    /// Set if the server has TLS of its own. It is not read.
    #[arg(long, env = "TLS_CERT")]
    tls_cert: Option<PathBuf>,
}

/// A kind of requests.
#[derive(Clone, Copy, ValueEnum)]
enum Purpose {
    /// Checks of keys.
    Checks,
}

pub(super) fn run(options: Health) -> Result<(), StartError> {
    let path = match options.purpose {
        Some(Purpose::Checks) => "/health/ready?for=checks",
        None if options.live => "/health/live",
        None => "/health/ready",
    };
    let within = Duration::from_secs(options.timeout_seconds);
    let server = options.server()?;
    match probe::status(&server, path, within) {
        Ok(200) => writeln!(std::io::stdout(), "{server}{path} answers 200").map_err(failed),
        Ok(status) => Err(failed(format!("{server}{path} answers {status}"))),
        Err(error) => Err(failed(format!("{server}{path} does not answer: {error}"))),
    }
}

impl Health {
    fn server(self) -> Result<ServerUrl, StartError> {
        if let Some(url) = self.url {
            return Ok(url);
        }
        if self.port == 0 {
            return Err(StartError::Setting(
                "PORT (--port) is 0, for a free one; name the server's with --url".into(),
            ));
        }
        let host = match self.host.as_str() {
            // What listens everywhere listens here.
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

fn failed(why: impl ToString) -> StartError {
    StartError::Environment(why.to_string())
}
