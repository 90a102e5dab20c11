//! Start and serve.

mod admission;
mod connection;
mod http;
mod listen;
mod shutdown;
mod signals;
mod tls;
mod transport;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix_web::{dev::ServerHandle, web};

pub use self::signals::survive_harmless;
use crate::server::{
    admission::Admission,
    connection::rejection::Rejections,
    http::{Edge, Threads},
    shutdown::{Stop, StopTimes},
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

/// Why the service did not start. One line, for whoever started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or cannot be: the remedy is in the text.
    #[error("{0}")]
    Setting(String),
    /// The settings are fine; the world is not.
    #[error("{0}")]
    Environment(String),
}

/// A service that has its database and its port.
pub struct Server {
    state: web::Data<State>,
    usage: UsageConfig,
    listener: TcpListener,
    metrics: Option<Listener>,
    threads: Threads,
    edge: Edge,
    stop_times: StopTimes,
}

impl Server {
    /// Brings the database up to date and takes the port.
    pub fn prepare(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let addresses = listen::resolve(&config.host, config.port)?;
        let tls = Tls::open(&config.http.tls)?.map(Arc::new);
        let stop_times = stop_times(config)?;
        // Before anything is touched that whoever serves it already relies on.
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
        let connections = admission::room_for_connections(config);
        let trusted = config.trusted_proxies.clone();
        let counted = Arc::new(ConnectionCounters::default());
        let admission = Admission::new(&config.http, trusted, connections, counted.clone());
        Ok(Self {
            threads: Threads {
                workers: config.workers.map_or_else(
                    || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(512)),
                    usize::from,
                ),
                // All that may block at once, should one worker have to do it all: neither hashing nor
                // the database may hold up the other for want of a thread.
                blocking: config.database.pool_size as usize + state.accounts.hashing_threads(),
            },
            edge: Edge {
                limits: config.http.connection_limits(),
                answer_time: config.http.answer_time,
                admission: Arc::new(admission),
                rejections: Rejections {
                    connections: counted,
                    over_tls: tls.is_some(),
                },
                tls,
                stopping: state.stopping.clone(),
            },
            state: web::Data::new(state),
            usage: config.usage,
            listener,
            metrics,
            stop_times,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop through the handle that `started` gets.
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
        let connections = self.edge.rejections.connections.clone();
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
            let ended = server.await;
            shutdown::connections_dropped(&admission).await;
            drop(serving);
            ended
        };
        let stopped = async { drop(stopped.await) };
        let keep = state.engine.run(&self.usage, stopped);
        let (ended, kept) = tokio::join!(serve, keep);
        if let Some(metrics) = metrics {
            metrics.stop().await;
        }
        state.db.finish().await;
        tracing::info!("stopped");
        ended?;
        kept.map_err(io::Error::other)
    }

    fn stop(&self) -> io::Result<Stop> {
        Ok(Stop {
            listener: self.listener.try_clone()?,
            admission: self.edge.admission.clone(),
            stopping: self.edge.stopping.clone(),
            times: self.stop_times,
        })
    }
}

fn stop_times(config: &Config) -> Result<StopTimes, StartError> {
    let times = StopTimes::of(&config.http);
    match 2 * times.drain <= times.total {
        true => Ok(times),
        false => Err(StartError::Setting(
            "DRAIN_SECONDS (--drain-seconds), 1 where nothing is said, must be at most half of SHUTDOWN_SECONDS \
             (--shutdown-seconds): lower the one or raise the other"
                .into(),
        )),
    }
}

fn listen_for_metrics(address: SocketAddr) -> Result<Listener, StartError> {
    Listener::bind(address).map_err(|error| {
        StartError::Environment(format!(
            "cannot listen on {address} for metrics: {error}; set METRICS_ADDR to an address that is free"
        ))
    })
}

/// Brings the database up to date, and says what that took.
pub fn migrate(url: &DatabaseUrl) -> Result<(), StartError> {
    let ran = migrations::run(url).map_err(|error| match error.is_about_the_url() {
        true => StartError::Setting(format!("DATABASE_URL (--database-url) {error}")),
        false => StartError::Environment(error.to_string()),
    })?;
    for migration in &ran {
        tracing::info!(migration, "migrated");
    }
    Ok(())
}

fn jwt_secret(config: &Config) -> Result<JwtSecret, StartError> {
    match (&config.jwt_secret, config.database.url.sqlite_path()) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, None) => Err(StartError::Setting(format!(
            "JWT_SECRET is missing: with PostgreSQL it must be given, since instances share it; \
             set it to at least {} random bytes, such as the output of `openssl rand -base64 32`",
            JwtSecret::MIN_BYTES
        ))),
        (None, Some(database)) => {
            let path = token_secret::path_beside(database);
            let failed = |error: io::Error| {
                StartError::Environment(format!("cannot use {}: {error}", path.display()))
            };
            let _lock = migrations::lock_beside(database)
                .map_err(|error| StartError::Environment(error.to_string()))?;
            token_secret::load_or_make(&path).map_err(failed)
        }
    }
}
