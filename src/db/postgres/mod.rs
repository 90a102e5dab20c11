//! Opens connections to PostgreSQL, each with a time limit for whatever it waits for.

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
    pooler::refuse_transaction_pooler,
    watchdog::{Hang, Watch},
};
use super::{ConnectError, deadline};
use crate::core::postgres_url::{Host, PostgresUrl};

/// The time that connections wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a host to take a connection.
    connect: Duration,
    /// For the response to a statement, by the server's clock.
    statement: Option<Duration>,
}

/// The server cancels a statement at its limit. A response that is later than this share of the limit
/// after it is not going to come.
const GRACE_SHARE: u32 = 4;
const MIN_GRACE: Duration = Duration::from_millis(250);

/// The limit where the server has none: rebuilding the indexes of some 100 million rows takes less.
const LONGEST_STATEMENT: Duration = Duration::from_secs(3600);

/// Of several hosts, one that is down must not hold up the start for long.
const CONNECT_ONE_OF_SEVERAL: Duration = Duration::from_secs(2);

/// Addresses of one host name that can be tried before the deadline for all of them.
const ADDRESSES: u32 = 3;

impl Patience {
    /// For what requests wait for: `limit` for a statement, and for a connection at least the two
    /// seconds that a lost packet takes.
    pub(super) fn of_requests(limit: Duration) -> Self {
        Self {
            connect: limit.max(Duration::from_secs(2)),
            statement: Some(limit),
        }
    }

    /// For migrations and the command line, whose statements may take long.
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

    /// The time that this process waits for the response to a statement.
    fn statement_limit(self) -> Duration {
        self.statement.map_or(LONGEST_STATEMENT, |limit| {
            limit + (limit / GRACE_SHARE).max(MIN_GRACE)
        })
    }

    /// The time that this process waits for one host.
    fn host_limit(self) -> Duration {
        let statement = self.statement.unwrap_or(self.connect);
        ADDRESSES * self.connect + statement
    }
}

/// Opens a connection with all its settings.
pub(super) fn open(
    url: &PostgresUrl,
    patience: Patience,
) -> Result<(PgConnection, Arc<Watch>), ConnectError> {
    connect(url, patience, |uri, watch| {
        let mut conn = PgConnection::establish(uri.expose_secret()).map_err(not_established)?;
        // A database or role may have it off. Then a backslash in a text of ours would mean something.
        let mut settings = String::from("SET standard_conforming_strings = on;");
        if let Some(limit) = patience.statement {
            let millis = limit.as_millis();
            // A session that is idle inside a transaction holds locks: PostgreSQL ends it then.
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
        // There was a connection: the message has nothing of the URL.
        ConnectionError::CouldntSetupConfiguration(error) => {
            ConnectError::Postgres(error.to_string())
        }
        error => ConnectError::postgres(&error.to_string()),
    }
}

/// Makes a connection to the first of the hosts that takes one.
pub(super) fn connect<T>(
    url: &PostgresUrl,
    patience: Patience,
    establish: impl Fn(&SecretString, &Arc<Watch>) -> Result<T, ConnectError>,
) -> Result<(T, Arc<Watch>), ConnectError> {
    let hosts = url.hosts();
    let patience = patience.of_one_of(hosts.len());
    let mut failures = Vec::new();
    for host in hosts {
        match connect_to(&host, patience, &establish) {
            Ok(connected) => {
                host.prefer();
                return Ok(connected);
            }
            Err(ConnectError::Postgres(why)) => failures.push(why),
            Err(error) => return Err(error),
        }
    }
    Err(ConnectError::Postgres(failures.join("; ")))
}

fn connect_to<T>(
    host: &Host<'_>,
    patience: Patience,
    establish: impl Fn(&SecretString, &Arc<Watch>) -> Result<T, ConnectError>,
) -> Result<(T, Arc<Watch>), ConnectError> {
    let (socket, _making) = match host.may_be_local() {
        true => {
            let (socket, making) = Socket::over_tcp_or_locally();
            (socket, Some(making))
        }
        false => (Socket::over_tcp(), None),
    };
    let watch = Watch::new(socket).map_err(|error| ConnectError::Postgres(error.to_string()))?;
    watch.limit_statements(patience.statement_limit());
    let uri = uri_of(host, &watch, patience);
    let now = Instant::now();
    watch.begin_to_connect(now, patience.host_limit());
    let established = establish(&uri, &watch);
    watch.end();
    let established = established?;
    watch.socket().find_local();
    Ok((established, watch))
}

/// A host's URI with what each of our connections asks of the network.
fn uri_of(host: &Host<'_>, watch: &Watch, patience: Patience) -> SecretString {
    let defaults = [
        ("connect_timeout", patience.connect.as_secs().to_string()),
        ("application_name", "latchkey".to_owned()),
        // A standby may not know yet what was revoked. A primary may be read-only, when its storage is
        // full for example: then keys are still checked.
        ("target_session_attrs", "primary".to_owned()),
        // An idle connection that a firewall dropped is found out after a minute, not two hours.
        ("keepalives_idle", "30".to_owned()),
        ("keepalives_interval", "10".to_owned()),
        ("keepalives_count", "3".to_owned()),
    ];
    // The last ones count, also where the URI sets them: the socket is found by its timeout, which libpq
    // does not set on a connection without keepalives.
    let timeout = watch.socket().tcp_user_timeout();
    let uri = host.uri_with(&defaults);
    format!(
        "{}&keepalives=1&tcp_user_timeout={timeout}",
        uri.expose_secret()
    )
    .into()
}

/// Limits the time of each statement on a connection.
struct StatementLimits {
    watch: Arc<Watch>,
    /// Instrumentation that the process has for all connections, which this takes the place of.
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
