//! Start, serve, and stop in order.

use std::net::SocketAddr;

use actix_web::{HttpServer, dev::ServerHandle, web};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app,
    core::{
        clock::Clock,
        config::{Config, JwtSecret},
        database_url::DatabaseUrl,
        security::token_secret,
    },
    db::{Db, migrations},
    openapi,
    state::State,
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

/// A service that has its database and its port.
pub struct Server {
    state: web::Data<State>,
    listener: std::net::TcpListener,
    workers: usize,
}

impl Server {
    /// Brings the database up to date and takes the port.
    pub fn prepare(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let jwt_secret = jwt_secret(config)?;
        migrate(&config.database.url)?;
        let db = Db::open(&config.database).map_err(|e| StartError::Environment(e.to_string()))?;
        let listener = listen(&config.host, config.port)?;
        Ok(Self {
            state: web::Data::new(State::new(config, &jwt_secret, db, clock)),
            listener,
            workers: config.workers.map_or_else(
                || std::thread::available_parallelism().map_or(1, usize::from),
                usize::from,
            ),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop through the handle that `started` gets.
    pub async fn run(self, started: impl FnOnce(ServerHandle)) -> std::io::Result<()> {
        let address = self.address()?;
        let state = self.state;
        let document = web::Data::new(openapi::document());
        let server = HttpServer::new(move || app::build(state.clone(), document.clone()))
            .workers(self.workers)
            .shutdown_timeout(SHUTDOWN_SECONDS)
            .disable_signals()
            .listen(self.listener)?
            .run();
        started(server.handle());
        tracing::info!("listening on http://{address}");
        server.await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Brings the database up to date, and says what that took.
pub fn migrate(url: &DatabaseUrl) -> Result<(), StartError> {
    let ran = migrations::run(url).map_err(|e| StartError::Environment(e.to_string()))?;
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
            let failed = |error: std::io::Error| {
                StartError::Environment(format!("cannot use {}: {error}", path.display()))
            };
            let _lock = migrations::lock_beside(database).map_err(failed)?;
            token_secret::load_or_make(&path).map_err(failed)
        }
    }
}

fn listen(host: &str, port: u16) -> Result<std::net::TcpListener, StartError> {
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).map_err(|_| {
        StartError::Setting(
            "HOST is not an address of this machine; give one such as 127.0.0.1 or 0.0.0.0".into(),
        )
    })?;
    let mut failure = None;
    for address in addresses {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = Some(error),
        }
    }
    let failure = failure.map_or_else(|| "no address".to_owned(), |error| error.to_string());
    Err(StartError::Environment(format!(
        "cannot listen on {host}:{port}: {failure}; set HOST and PORT to an address that is free"
    )))
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Stops the server when SIGINT or SIGTERM says so: the first in order, the second at once.
pub async fn stop_on_signal(handle: ServerHandle) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        tracing::error!("cannot listen for signals");
        return;
    };
    let mut graceful = true;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        actix_web::rt::spawn(handle.stop(graceful));
        graceful = false;
    }
}
