//! HTTP server: passes accepted sockets through admission, TLS and deadlines to the HTTP library and the app.

use std::{
    io::{self, Read as _, Write as _},
    net::{self, SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::{HttpService, KeepAlive, Protocol, error::DispatchError};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    dev::{AppConfig, Server},
    web,
};
use tokio::net::TcpStream;
use utoipa::openapi::OpenApi;

use super::{
    admission::Admission,
    connection::{Connection, Transport, rejection::ConnectionResponses},
    tls::Tls,
};
use crate::{
    app,
    config::HttpConfig,
    connection::{
        counters::{ConnectionRejection, OverTls},
        state::{ConnectionLimits, ConnectionState, FIRST_REQUEST_TIMEOUT, LINGER},
    },
    middleware::Requests,
    routes::{docs::Documents, fallback::AllowedMethods},
    shutdown::Shutdown,
    state::State,
};

/// Number of worker threads, and of threads per worker for blocking work.
#[derive(Clone, Copy)]
pub(super) struct Threads {
    pub workers: usize,
    pub blocking: usize,
}

/// Shared parts and limits of all connections. Clones share them.
#[derive(Clone)]
pub(super) struct Edge {
    pub limits: ConnectionLimits,
    /// Time for a client to receive each 32 KiB of a response.
    pub response_timeout: Duration,
    pub admission: Arc<Admission>,
    pub responses: ConnectionResponses,
    pub tls: Option<Arc<Tls>>,
    pub shutdown: Shutdown,
}

/// Creates the server, which runs when awaited.
pub(super) fn serve(
    edge: Edge,
    listener: TcpListener,
    threads: Threads,
    state: web::Data<State>,
    document: &OpenApi,
    request_metrics: Option<Arc<Requests>>,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let documents = web::Data::new(Documents::new(document)?);
    let allowed = web::Data::new(AllowedMethods::of(document));
    let server = Server::build()
        .workers(threads.workers)
        .worker_max_blocking_threads(threads.blocking)
        // `Admission` limits connections instead, and sends a response on those that it rejects.
        .max_concurrent_connections(usize::MAX >> 1)
        .disable_signals()
        .listen("http", listener, move || {
            let app = app::build(state.clone(), documents.clone(), allowed.clone());
            let app = match &request_metrics {
                Some(requests) => app.app_data(requests.meter()),
                None => app,
            };
            let app = app.into_factory();
            let app = app.map_err(|error: actix_web::Error| error.error_response());
            let http = HttpService::build()
                // `ConnectionState` measures both timeouts instead.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(LINGER)
                .local_addr(address)
                .on_connect_ext(|connection: &Connection, data| {
                    data.insert::<Rc<ConnectionState>>(connection.connection_state());
                    // A marker, because an `AppConfig` for TLS cannot be constructed.
                    if connection.is_over_tls() {
                        data.insert(OverTls);
                    }
                })
                .finish(map_config(app, |()| AppConfig::default()));
            let edge = edge.clone();
            fn_service(move |socket: TcpStream| {
                let edge = edge.clone();
                async move {
                    let (connection, peer) = edge
                        .open_connection(socket)
                        .await
                        .map_err(DispatchError::Io)?;
                    Ok((connection, Protocol::Http1, Some(peer)))
                }
            })
            .and_then(http)
        })?;
    Ok(server.run())
}

impl HttpConfig {
    pub(super) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            head_bytes: self.max_header_bytes,
            body_bytes: self.max_body_bytes,
            header_timeout: self.header_timeout,
            keep_alive: self.keep_alive,
        }
    }
}

impl Edge {
    /// Opens a connection on a socket, if a permit is available and the TLS handshake completes in time.
    async fn open_connection(&self, socket: TcpStream) -> io::Result<(Connection, SocketAddr)> {
        let peer = socket.peer_addr()?;
        let permit = match self.admission.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(reason) => {
                self.reject(socket.into_std()?, reason);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
        };
        socket.set_nodelay(true)?;
        let opened = Instant::now();
        let transport = match &self.tls {
            None => Transport::Left(socket),
            Some(tls) => {
                let handshake = tls.acceptor().accept(socket);
                let handshake = tokio::time::timeout(self.limits.header_timeout, handshake);
                let stream = tokio::select! {
                    result = handshake => result??,
                    () = self.handshake_deadline_in_shutdown(opened) => return Err(io::ErrorKind::TimedOut.into()),
                };
                Transport::Right(Box::new(stream))
            }
        };
        let connection_state = ConnectionState::new(self.limits, self.shutdown.clone(), opened);
        let connection = Connection::new(
            transport,
            connection_state,
            self.response_timeout,
            &self.shutdown,
            self.responses.clone(),
            permit,
        );
        Ok((connection, peer))
    }

    /// Waits until the service shuts down and the time for a handshake that started at this time has passed.
    async fn handshake_deadline_in_shutdown(&self, started: Instant) {
        self.shutdown.idle_closed().await;
        tokio::time::sleep_until((started + FIRST_REQUEST_TIMEOUT).into()).await;
    }

    /// Rejects a connection with a 503 response, after which the client may retry. A client that expects TLS gets no
    /// response.
    fn reject(&self, mut socket: net::TcpStream, reason: ConnectionRejection) {
        tracing::debug!(full = ?reason, "rejected a connection: too many connections");
        if self.tls.is_some() {
            return;
        }
        // Non-blocking. Data that has arrived and is not read would make the close reset the connection.
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write(&self.responses.to_rejected_connection(reason));
        let _ = socket.shutdown(net::Shutdown::Write);
    }
}
