//! Settings of the log.

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Settings of the log.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// Log level: `error`, `warn`, `info`, `debug`, `trace` or `off`, or a filter such as `info,latchkey=debug`.
    #[arg(id = "log", long = "log", env = "LOG", default_value = "info", value_parser = parse_log_filter)]
    pub filter: String,

    /// Format of the log lines.
    #[arg(id = "log_format", long = "log-format", env = "LOG_FORMAT", value_enum,
          default_value_t = LogFormat::Text)]
    pub format: LogFormat,
}

/// Value of `LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Readable text, one line per event.
    Text,
    /// One JSON object per line.
    Json,
}

fn parse_log_filter(text: &str) -> Result<String, String> {
    // A single word may also name a target: then only lines of that target are logged. A mistyped level would
    // silence the whole log.
    let names_a_level = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    match EnvFilter::builder().parse(text) {
        Ok(_) if text.split(',').all(names_a_level) => Ok(text.to_owned()),
        _ => {
            Err("is not a log filter; give a level such as `info`, or a filter such as `info,latchkey=debug`".into())
        }
    }
}
