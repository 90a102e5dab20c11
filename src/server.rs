//! Start, serve, and stop in order.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    time::Duration,
};

use actix_web::{HttpServer, dev::ServerHandle, web};
use socket2::{Domain, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app,
    core::{
        clock::Clock,
        config::{Config, JwtSecret},
        database_url::DatabaseUrl,
        security::token_secret,
    },
    db::{
        Claim, ConnectError, Db,
        migrations::{self, MigrateError},
    },
    openapi,
    state::State,
    verification::engine::OpenError,
};

/// How long requests that are being answered may still take after the order to stop.
const SHUTDOWN_SECONDS: u64 = 10;

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

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A service that has its database and its port.
pub struct Server {
    state: web::Data<State>,
    last_used_interval: Duration,
    listener: TcpListener,
    workers: usize,
    blocking_threads: usize,
}

impl Server {
    /// Brings the database up to date and takes the port.
    pub fn prepare(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let addresses = resolve(&config.host, config.port)?;
        // Before anything is touched that whoever serves it already relies on.
        let claim = Claim::take(&config.database.url)
            .map_err(|error| StartError::Environment(error.to_string()))?;
        let jwt_secret = jwt_secret(config)?;
        migrate(&config.database.url)?;
        let db = Db::open(&config.database).map_err(|e| StartError::Environment(e.to_string()))?;
        let listener = listen(&addresses)?;
        let state = State::new(config, &jwt_secret, claim, db, clock).map_err(|e| match e {
            OpenError::Redis(_) => StartError::Setting(e.to_string()),
            OpenError::Claim(_) | OpenError::Connect(_) => StartError::Environment(e.to_string()),
        })?;
        Ok(Self {
            // All that may block at once, should one worker have to do it all: neither hashing nor the
            // database may hold up the other for want of a thread.
            blocking_threads: config.database.pool_size as usize + state.accounts.hashing_threads(),
            state: web::Data::new(state),
            last_used_interval: config.last_used_interval,
            listener,
            workers: config.workers.map_or_else(
                || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(512)),
                usize::from,
            ),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop through the handle that `started` gets.
    pub async fn run(self, started: impl FnOnce(ServerHandle)) -> io::Result<()> {
        let address = self.address()?;
        let state = self.state;
        let document = web::Data::new(openapi::document());
        let served = state.clone();
        let server = HttpServer::new(move || app::build(served.clone(), document.clone()))
            .workers(self.workers)
            .worker_max_blocking_threads(self.blocking_threads)
            .shutdown_timeout(SHUTDOWN_SECONDS)
            .disable_signals()
            .listen(self.listener)?
            .run();
        started(server.handle());
        tracing::info!("listening on http://{address}");
        let (serving, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = async {
            let ended = server.await;
            drop(serving);
            ended
        };
        let stopped = async { drop(stopped.await) };
        let keep = state.engine.run(self.last_used_interval, stopped);
        let (ended, ()) = tokio::join!(serve, keep);
        tracing::info!("stopped");
        ended
    }

    /// Serves until SIGINT or SIGTERM. The first lets it finish what it is answering; a second one ends
    /// it at once.
    pub fn run_until_signalled(self) -> io::Result<()> {
        actix_web::rt::System::new().block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut signalled = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            let (sender, handle) = tokio::sync::oneshot::channel();
            let mut server = std::pin::pin!(self.run(|handle| {
                let _ = sender.send(handle);
            }));
            tokio::select! {
                ended = &mut server => return ended,
                () = signalled() => {}
            }
            tracing::info!("stopping");
            if let Ok(handle) = handle.await {
                // Sent by this call; the future only waits for the end.
                drop(handle.stop(true));
            }
            tokio::select! {
                ended = server => ended,
                () = signalled() => Err(io::Error::other("stopped before all was answered")),
            }
        })
    }
}

/// Brings the database up to date, and says what that took.
pub fn migrate(url: &DatabaseUrl) -> Result<(), StartError> {
    let ran = migrations::run(url).map_err(|error| match error {
        MigrateError::Connect(ConnectError::Url) => StartError::Setting(format!(
            "DATABASE_URL (--database-url) {}",
            ConnectError::Url
        )),
        error => StartError::Environment(error.to_string()),
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

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, StartError> {
    let addresses = (host, port).to_socket_addrs().map_err(|_| {
        StartError::Setting(
            "HOST (--host) is not an address of this machine; give one such as 127.0.0.1 or 0.0.0.0".into(),
        )
    })?;
    Ok(addresses.collect())
}

/// Takes the first of the addresses that can be had.
fn listen(addresses: &[SocketAddr]) -> Result<TcpListener, StartError> {
    let mut failures = Vec::new();
    for address in addresses {
        match bind(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(StartError::Environment(format!(
        "cannot listen on {}; set HOST and PORT to an address that is free",
        failures.join(", ")
    )))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart need not wait for the last connections of the one before to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
