//! Structured logs on standard output.

use std::panic::Location;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Maximum number of lines that wait for a slow reader of standard output. Further lines are dropped: a full pipe must
/// not block requests.
const BUFFERED_LINES: usize = 16_384;

/// Starts logging for the whole process. A separate thread writes the lines; the guard flushes the rest when it is
/// dropped.
pub fn start(config: &LogConfig) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .lossy(true)
        .finish(std::io::stdout());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.filter))
        .with_writer(writer)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    // Fails only if a subscriber is already set, as in a test; that one stays.
    let _ = match config.format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| log_panic(panic.location())));
    guard
}

/// Returns the filter, with most lines of the server library excluded, unless the directives mention it.
///
/// The library also announces each listener, and logs an error for each request that is not HTTP. A client can send any
/// number of those.
fn filter(directives: &str) -> EnvFilter {
    if directives.contains("actix_") {
        return EnvFilter::new(directives);
    }
    EnvFilter::new(format!(
        "actix_server=warn,actix_http::h1::dispatcher=off,{directives}"
    ))
}

/// Logs the location of a panic, without its message: panics of `str` quote their text, which may be a secret.
fn log_panic(location: Option<&Location<'_>>) {
    match location {
        Some(at) => tracing::error!(file = at.file(), line = at.line(), "panicked"),
        None => tracing::error!("panicked"),
    }
}
