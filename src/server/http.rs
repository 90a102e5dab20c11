//! From a socket to the app: admission, TLS, a connection that keeps time, HTTP/1.1.

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

use crate::server::{
    admission::Admission,
    connection::{Connection, rejection::Rejections},
    tls::Tls,
    transport::Transport,
};
use crate::{
    app,
    config::HttpConfig,
    connection::{
        counters::{ConnectionRejection, OverTls},
        state::{ConnectionLimits, ConnectionState, FIRST_REQUEST_WITHIN, LINGER},
    },
    middleware::Requests,
    routes::{docs::Documents, fallback::AllowedMethods},
    shutdown::Shutdown,
    state::State,
};

/// Threads, and how many of them may block.
#[derive(Clone, Copy)]
pub(super) struct Threads {
    pub workers: usize,
    pub blocking: usize,
}

/// What every connection needs. Clones share it.
#[derive(Clone)]
pub(super) struct Edge {
    pub limits: ConnectionLimits,
    pub answer_time: Duration,
    pub admission: Arc<Admission>,
    pub rejections: Rejections,
    pub tls: Option<Arc<Tls>>,
    pub stopping: Shutdown,
}

/// The server, which runs when it is awaited.
pub(super) fn serve(
    edge: Edge,
    listener: TcpListener,
    threads: Threads,
    state: web::Data<State>,
    document: &OpenApi,
    measured: Option<Arc<Requests>>,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let documents = web::Data::new(Documents::new(document)?);
    let allowed = web::Data::new(AllowedMethods::of(document));
    let server = Server::build()
        .workers(threads.workers)
        .worker_max_blocking_threads(threads.blocking)
        // `Admission` counts them, and tells those that are too many.
        .max_concurrent_connections(usize::MAX >> 1)
        .disable_signals()
        .listen("http", listener, move || {
            let app = app::build(state.clone(), documents.clone(), allowed.clone());
            let app = match &measured {
                Some(requests) => app.app_data(requests.meter()),
                None => app,
            };
            let app = app.into_factory();
            let app = app.map_err(|error: actix_web::Error| error.error_response());
            let http = HttpService::build()
                // Both are `ConnectionState`'s to measure.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(LINGER)
                .local_addr(address)
                .on_connect_ext(|connection: &Connection, data| {
                    data.insert::<Rc<ConnectionState>>(connection.connection_state());
                    // An `AppConfig` that says so cannot be made.
                    if connection.is_over_tls() {
                        data.insert(OverTls);
                    }
                })
                .finish(map_config(app, |()| AppConfig::default()));
            let edge = edge.clone();
            fn_service(move |socket: TcpStream| {
                let edge = edge.clone();
                async move {
                    let (connection, peer) =
                        edge.welcome(socket).await.map_err(DispatchError::Io)?;
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
            head_bytes: self.max_head_bytes,
            body_bytes: self.max_body_bytes,
            head_time: self.head_time,
            keep_alive: self.keep_alive,
        }
    }
}

impl Edge {
    /// Makes a connection of a socket, if there is a permit for it and it can do TLS in time.
    async fn welcome(&self, socket: TcpStream) -> io::Result<(Connection, SocketAddr)> {
        let peer = socket.peer_addr()?;
        let permit = match self.admission.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(full) => {
                self.refuse(socket.into_std()?, full);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
        };
        socket.set_nodelay(true)?;
        let opened = Instant::now();
        let transport = match &self.tls {
            None => Transport::Plain(socket),
            Some(tls) => {
                let handshake = tls.acceptor().accept(socket);
                let handshake = tokio::time::timeout(self.limits.head_time, handshake);
                let stream = tokio::select! {
                    shaken = handshake => shaken??,
                    () = self.too_late(opened) => return Err(io::ErrorKind::TimedOut.into()),
                };
                Transport::Tls(Box::new(stream))
            }
        };
        let connection_state = ConnectionState::new(self.limits, self.stopping.clone(), opened);
        let connection = Connection::new(
            transport,
            connection_state,
            self.answer_time,
            &self.stopping,
            self.rejections.clone(),
            permit,
        );
        Ok((connection, peer))
    }

    /// Waits until the service does not wait any more for a handshake that began then: it stops.
    async fn too_late(&self, began: Instant) {
        self.stopping.idle_closed().await;
        tokio::time::sleep_until((began + FIRST_REQUEST_WITHIN).into()).await;
    }

    /// Says so, if the client does not expect TLS. It costs it nothing to wait and try again.
    fn refuse(&self, mut socket: net::TcpStream, full: ConnectionRejection) {
        tracing::debug!(?full, "no permit for a connection");
        if self.tls.is_some() {
            return;
        }
        // It does not block. What has come already and is not read would reset the connection.
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write(&self.rejections.of_connection(full));
        let _ = socket.shutdown(net::Shutdown::Write);
    }
}
