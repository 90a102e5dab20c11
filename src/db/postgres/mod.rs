//! Opens connections to PostgreSQL, with a time limit for each wait.

mod open_files;
mod pooler;
mod socket;
mod watchdog;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, ConnectionError, PgConnection,
    connection::{
        Instrumentation, InstrumentationEvent, SimpleConnection as _, get_default_instrumentation,
    },
};
use secrecy::{ExposeSecret as _, SecretString};

pub use self::pooler::PoolerError;
use self::socket::Socket;
pub(super) use self::{
    pooler::reject_transaction_pooler,
    watchdog::{Hang, Watch},
};
use super::{ConnectError, deadline};
use crate::config::postgres_url::{Host, PostgresUrl};

/// Time limits of a connection's waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitLimit {
    /// Time limit for a host to accept a connection.
    connect: Duration,
    /// Time limit for a statement, which the server enforces. `None` for no limit.
    statement: Option<Duration>,
}

/// Divisor of the statement limit that gives the grace period after it.
///
/// The server cancels a statement at its limit. When the grace period has passed too, no response will come.
const GRACE_DIVISOR: u32 = 4;
/// Minimum grace period.
const MIN_GRACE: Duration = Duration::from_millis(250);

/// Time limit of this process where the server has none. Rebuilding the indexes of about 100 million rows takes less.
const LONGEST_STATEMENT: Duration = Duration::from_secs(3600);

/// Time limit for each of several hosts, so that one that is down does not delay the start for long.
const CONNECT_ONE_OF_SEVERAL: Duration = Duration::from_secs(2);

/// Number of addresses of one host name that can be tried within the limit for the host.
const ADDRESSES: u32 = 3;

impl WaitLimit {
    /// Returns the limits for requests: `limit` for a statement, and at least 2 seconds for a connection.
    ///
    /// The retransmission of a lost packet takes up to 2 seconds.
    pub(super) fn of_requests(limit: Duration) -> Self {
        Self {
            connect: limit.max(Duration::from_secs(2)),
            statement: Some(limit),
        }
    }

    /// Returns the limits for migrations and commands, whose statements may take long.
    pub(super) fn of_maintenance() -> Self {
        Self {
            connect: Duration::from_secs(10),
            statement: None,
        }
    }

    fn of_one_of(self, hosts: usize) -> Self {
        let connect = match hosts {
            1 => self.connect,
            _ => self.connect.min(CONNECT_ONE_OF_SEVERAL),
        };
        Self { connect, ..self }
    }

    /// Returns the time that this process waits for the response to a statement.
    fn statement_limit(self) -> Duration {
        self.statement.map_or(LONGEST_STATEMENT, |limit| {
            limit + (limit / GRACE_DIVISOR).max(MIN_GRACE)
        })
    }

    /// Returns the time that this process waits for one host.
    fn host_limit(self) -> Duration {
        let statement = self.statement.unwrap_or(self.connect);
        ADDRESSES * self.connect + statement
    }
}

/// Opens a connection with all its settings.
pub(super) fn open(
    url: &PostgresUrl,
    wait_limit: WaitLimit,
) -> Result<(PgConnection, Arc<Watch>), ConnectError> {
    connect(url, wait_limit, |uri, watch| {
        let mut conn = PgConnection::establish(uri.expose_secret()).map_err(not_established)?;
        // A database or role may turn this off. Then a backslash in a string literal would be an escape character.
        let mut settings = String::from("SET standard_conforming_strings = on;");
        if let Some(limit) = wait_limit.statement {
            let millis = limit.as_millis();
            // A session that is idle inside a transaction holds locks. PostgreSQL ends it at this limit.
            settings.push_str(&format!(
                "SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis}"
            ));
        }
        conn.batch_execute(&settings)
            .map_err(|error| ConnectError::Postgres(error.to_string()))?;
        conn.set_instrumentation(StatementLimits {
            watch: watch.clone(),
            default: get_default_instrumentation(),
        });
        Ok(conn)
    })
}

fn not_established(error: ConnectionError) -> ConnectError {
    match error {
        // The connection was established, so the message shows no part of the URL.
        ConnectionError::CouldntSetupConfiguration(error) => {
            ConnectError::Postgres(error.to_string())
        }
        error => ConnectError::postgres(&error.to_string()),
    }
}

/// Connects to the first of the hosts that accepts a connection.
pub(super) fn connect<T>(
    url: &PostgresUrl,
    wait_limit: WaitLimit,
    establish: impl Fn(&SecretString, &Arc<Watch>) -> Result<T, ConnectError>,
) -> Result<(T, Arc<Watch>), ConnectError> {
    let hosts = url.hosts();
    let wait_limit = wait_limit.of_one_of(hosts.len());
    let mut failures = Vec::new();
    for host in hosts {
        match connect_to(&host, wait_limit, &establish) {
            Ok(connected) => {
                host.prefer();
                return Ok(connected);
            }
            Err(ConnectError::Postgres(reason)) => failures.push(reason),
            Err(error) => return Err(error),
        }
    }
    Err(ConnectError::Postgres(failures.join("; ")))
}

fn connect_to<T>(
    host: &Host<'_>,
    wait_limit: WaitLimit,
    establish: impl Fn(&SecretString, &Arc<Watch>) -> Result<T, ConnectError>,
) -> Result<(T, Arc<Watch>), ConnectError> {
    let (socket, _lock) = if host.may_be_local() {
        let (socket, lock) = Socket::over_tcp_or_locally();
        (socket, Some(lock))
    } else {
        (Socket::over_tcp(), None)
    };
    let watch = Watch::new(socket).map_err(|error| ConnectError::Postgres(error.to_string()))?;
    watch.limit_statements(wait_limit.statement_limit());
    let uri = uri_of(host, &watch, wait_limit);
    let now = Instant::now();
    watch.begin_to_connect(now, wait_limit.host_limit());
    let established = establish(&uri, &watch);
    watch.end();
    let established = established?;
    watch.socket().find_local();
    Ok((established, watch))
}

/// Returns the URI of a host with the parameters that every connection needs.
fn uri_of(host: &Host<'_>, watch: &Watch, wait_limit: WaitLimit) -> SecretString {
    let defaults = [
        ("connect_timeout", wait_limit.connect.as_secs().to_string()),
        ("application_name", "latchkey".to_owned()),
        // A standby may not have received a revocation yet. A read-only primary, for example with full storage, is
        // accepted: keys can still be checked.
        ("target_session_attrs", "primary".to_owned()),
        // Detects an idle connection that a firewall dropped after a minute, not after two hours.
        ("keepalives_idle", "30".to_owned()),
        ("keepalives_interval", "10".to_owned()),
        ("keepalives_count", "3".to_owned()),
    ];
    // libpq uses the last value of a parameter, so these override the URI. The socket is found by its
    // `tcp_user_timeout`, which libpq does not set on a connection without keepalives.
    let timeout = watch.socket().tcp_user_timeout();
    let uri = host.uri_with(&defaults);
    format!(
        "{}&keepalives=1&tcp_user_timeout={timeout}",
        uri.expose_secret()
    )
    .into()
}

/// Instrumentation that arms the [`Watch`] of a connection for each statement.
struct StatementLimits {
    watch: Arc<Watch>,
    /// Default instrumentation of the process, which this one replaces and calls.
    default: Option<Box<dyn Instrumentation>>,
}

impl Instrumentation for StatementLimits {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => {
                self.watch.begin_statement(deadline::current());
            }
            InstrumentationEvent::FinishQuery { .. } => self.watch.end(),
            _ => {}
        }
        self.default.on_connection_event(event);
    }
}
