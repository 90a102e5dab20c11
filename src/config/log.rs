//! What is logged, and how.

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// Which lines are logged: `error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter such as
    /// `info,latchkey=debug`.
    #[arg(id = "log", long = "log", env = "LOG", default_value = "info", value_parser = parse_log_filter)]
    pub filter: String,

    /// How a line looks.
    #[arg(id = "log_format", long = "log-format", env = "LOG_FORMAT", value_enum,
          default_value_t = LogFormat::Text)]
    pub format: LogFormat,
}

/// `LOG_FORMAT`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// One JSON object per line.
    Json,
}

fn parse_log_filter(text: &str) -> Result<String, String> {
    // A word alone could also be a target, all of whose lines would be logged, and no other's: a
    // mistyped level would silence everything.
    let names_a_level = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    match EnvFilter::builder().parse(text) {
        Ok(_) if text.split(',').all(names_a_level) => Ok(text.to_owned()),
        _ => {
            Err("is not a log filter; give a level such as `info`, or `info,latchkey=debug`".into())
        }
    }
}
