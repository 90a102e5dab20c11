//! Structured logs on standard output.

use std::panic::Location;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Lines that may wait for a slow reader of our output. Past it they are dropped: a full pipe must
/// not stop the answering of requests.
const BUFFERED_LINES: usize = 16_384;

/// Starts logging for the whole process. Lines are written by a thread of their own; the guard
/// writes out what is left when it is dropped.
pub fn start(config: &LogConfig) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .lossy(true)
        .finish(std::io::stdout());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.filter))
        .with_writer(writer)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    // Fails only where a subscriber is set already, as in a test; that one then stays.
    let _ = match config.format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| log_panic(panic.location())));
    guard
}

/// Unless asked for, without what the server library says: it announces each listener too, and has an
/// error for each request that is no HTTP, of which a client can send as many as it likes.
fn filter(directives: &str) -> EnvFilter {
    if directives.contains("actix_") {
        return EnvFilter::new(directives);
    }
    EnvFilter::new(format!(
        "actix_server=warn,actix_http::h1::dispatcher=off,{directives}"
    ))
}

/// Where it happened, and not the message: `str` panics quote the text that they were given, which
/// may be a secret.
fn log_panic(location: Option<&Location<'_>>) {
    match location {
        Some(at) => tracing::error!(file = at.file(), line = at.line(), "panicked"),
        None => tracing::error!("panicked"),
    }
}
