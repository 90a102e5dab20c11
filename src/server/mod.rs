//! Server: start, listeners, connections and their limits, TLS, shutdown.

mod admission;
mod connection;
mod http;
mod listen;
mod shutdown;
mod signals;
mod tls;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix_web::{dev::ServerHandle, web};

pub use self::signals::ignore_harmless_signals;
use self::{
    admission::Admission,
    connection::rejection::ConnectionResponses,
    http::{Edge, Threads},
    shutdown::{GracefulShutdown, ShutdownTimes},
    tls::Tls,
};
use crate::{
    auth::token_secret,
    config::{Config, JwtSecret, UsageConfig, database_url::DatabaseUrl},
    connection::counters::ConnectionCounters,
    db::{Claim, Db, migrations},
    domain::clock::Clock,
    metrics::{Listener, Metrics},
    middleware::Requests,
    openapi,
    state::State,
    verification::engine::OpenError,
};

/// Error that prevents the start of the service. Its text is one line, meant for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or invalid. The text names the setting and the remedy.
    #[error("{0}")]
    Setting(String),
    /// The settings are valid, but the environment does not allow the start: the database, a file, or a port.
    #[error("{0}")]
    Environment(String),
}

/// Service with an open database and a bound port. It serves once it runs.
pub struct Server {
    state: web::Data<State>,
    usage: UsageConfig,
    listener: TcpListener,
    metrics: Option<Listener>,
    threads: Threads,
    edge: Edge,
    shutdown_times: ShutdownTimes,
}

impl Server {
    /// Migrates the database and binds the port.
    pub fn prepare(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let addresses = listen::resolve(&config.host, config.port)?;
        let tls = Tls::open(&config.http.tls)?.map(Arc::new);
        let shutdown_times = shutdown_times(config)?;
        // Must come before any change to data that another process may be serving.
        let claim = Claim::take(&config.database.url)
            .map_err(|error| StartError::Environment(error.to_string()))?;
        let jwt_secret = jwt_secret(config)?;
        migrate(&config.database.url)?;
        let db = Db::open(&config.database).map_err(|e| StartError::Environment(e.to_string()))?;
        claim
            .keep(&db)
            .map_err(|error| StartError::Environment(OpenError::Files(error).to_string()))?;
        let listener = listen::listen(&addresses)?;
        let metrics = config.telemetry.metrics_addr.map(listen_for_metrics);
        let metrics = metrics.transpose()?;
        let state = State::new(config, &jwt_secret, claim, db, clock).map_err(|e| match e {
            OpenError::Redis(_) => StartError::Setting(e.to_string()),
            OpenError::Claim(_) | OpenError::Connect(_) | OpenError::Files(_) => {
                StartError::Environment(e.to_string())
            }
        })?;
        let max_connections = admission::connection_capacity(config);
        let trusted_proxies = config.trusted_proxies.clone();
        let counters = Arc::new(ConnectionCounters::default());
        let admission = Admission::new(
            &config.http,
            trusted_proxies,
            max_connections,
            counters.clone(),
        );
        Ok(Self {
            threads: Threads {
                workers: config.workers.map_or_else(
                    || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(512)),
                    usize::from,
                ),
                // Enough threads for all blocking work at once, even if a single worker does all of it. Otherwise
                // hashing and database queries would delay each other.
                blocking: config.database.pool_size as usize + state.accounts.hashing_threads(),
            },
            edge: Edge {
                limits: config.http.connection_limits(),
                response_timeout: config.http.response_timeout,
                admission: Arc::new(admission),
                responses: ConnectionResponses {
                    counters,
                    over_tls: tls.is_some(),
                },
                tls,
                shutdown: state.stopping.clone(),
            },
            state: web::Data::new(state),
            usage: config.usage,
            listener,
            metrics,
            shutdown_times,
        })
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the server is stopped through the handle that is passed to `started`.
    pub async fn run(self, started: impl FnOnce(ServerHandle)) -> io::Result<()> {
        let address = self.address()?;
        let scheme = if self.edge.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let state = self.state;
        let document = openapi::document();
        let requests = self.metrics.is_some().then(|| Requests::of(&document));
        let connections = self.edge.responses.counters.clone();
        let admission = self.edge.admission.clone();
        let server = http::serve(
            self.edge,
            self.listener,
            self.threads,
            state.clone(),
            &document,
            requests.clone(),
        )?;
        started(server.handle());
        let metrics = self.metrics.zip(requests).map(|(listener, requests)| {
            listener.start(Arc::new(Metrics::new(state.clone(), requests, connections)))
        });
        let metrics = metrics.transpose()?;
        tracing::info!("listening on {scheme}://{address}");
        let (serving, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = async {
            let served = server.await;
            shutdown::await_dropped_connections(&admission).await;
            drop(serving);
            served
        };
        let stopped = async { drop(stopped.await) };
        let maintenance = state.engine.run(&self.usage, stopped);
        let (served, maintained) = tokio::join!(serve, maintenance);
        if let Some(metrics) = metrics {
            metrics.stop().await;
        }
        state.db.finish().await;
        tracing::info!("stopped");
        served?;
        maintained.map_err(io::Error::other)
    }

    fn graceful_shutdown(&self) -> io::Result<GracefulShutdown> {
        Ok(GracefulShutdown {
            listener: self.listener.try_clone()?,
            admission: self.edge.admission.clone(),
            shutdown: self.edge.shutdown.clone(),
            times: self.shutdown_times,
        })
    }
}

fn shutdown_times(config: &Config) -> Result<ShutdownTimes, StartError> {
    let times = ShutdownTimes::of(&config.http);
    if 2 * times.drain <= times.total {
        Ok(times)
    } else {
        Err(StartError::Setting(
            "DRAIN_SECONDS (--drain-seconds) must be at most half of SHUTDOWN_SECONDS (--shutdown-seconds), \
             and is 1 by default: lower the former or raise the latter"
                .into(),
        ))
    }
}

fn listen_for_metrics(address: SocketAddr) -> Result<Listener, StartError> {
    Listener::bind(address).map_err(|error| {
        StartError::Environment(format!(
            "cannot listen on {address} for metrics: {error}; set METRICS_ADDR to a free address"
        ))
    })
}

/// Runs the pending migrations, and logs each of them.
pub fn migrate(url: &DatabaseUrl) -> Result<(), StartError> {
    let applied = migrations::run(url).map_err(|error| {
        if error.is_invalid_url() {
            StartError::Setting(format!("DATABASE_URL (--database-url) {error}"))
        } else {
            StartError::Environment(error.to_string())
        }
    })?;
    for migration in &applied {
        tracing::info!(migration, "applied a database migration");
    }
    Ok(())
}

fn jwt_secret(config: &Config) -> Result<JwtSecret, StartError> {
    match (&config.jwt_secret, config.database.url.sqlite_path()) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, None) => Err(StartError::Setting(format!(
            "JWT_SECRET is missing: it is required with PostgreSQL, since all instances must use the same one; \
             set it to at least {} random bytes, such as the output of `openssl rand -base64 32`",
            JwtSecret::MIN_BYTES
        ))),
        (None, Some(database)) => {
            let path = token_secret::path_beside(database);
            let failed = |error: io::Error| {
                StartError::Environment(format!(
                    "cannot use the JWT secret file {}: {error}",
                    path.display()
                ))
            };
            let _lock = migrations::lock_beside(database)
                .map_err(|error| StartError::Environment(error.to_string()))?;
            token_secret::load_or_make(&path).map_err(failed)
        }
    }
}
