//! Listener for Prometheus. It is separate from the service's, so that the network can restrict access to it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::header::CONTENT_TYPE,
    web::{self, Data},
};
use prometheus_client::encoding::prometheus_text;

use super::Metrics;

/// Maximum number of connections. Few are expected; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// Time for a client to send the request headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const SHUTDOWN_TIMEOUT_SECONDS: u64 = 1;

/// Listener that is bound to its address and does not serve yet.
pub struct Listener {
    socket: TcpListener,
}

/// Listener that serves until [`Listening::stop`].
pub struct Listening {
    handle: ServerHandle,
}

impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Serves from now on, on a thread of its own, independent of the load on the service.
    pub fn start(self, metrics: Arc<Metrics>) -> io::Result<Listening> {
        let address = self.socket.local_addr()?;
        let server = HttpServer::new(move || {
            App::new()
                .app_data(Data::new(metrics.clone()))
                .route("/metrics", web::get().to(scrape))
        })
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(HEADER_TIMEOUT)
        .shutdown_timeout(SHUTDOWN_TIMEOUT_SECONDS)
        .disable_signals()
        .listen(self.socket)?
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        tracing::info!("serving metrics on http://{address}/metrics");
        Ok(Listening { handle })
    }
}

impl Listening {
    pub async fn stop(self) {
        self.handle.stop(true).await;
    }
}

async fn scrape(metrics: Data<Arc<Metrics>>) -> HttpResponse {
    match metrics.text() {
        Ok(text) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, prometheus_text::CONTENT_TYPE))
            .body(text),
        // Writing to memory does not fail.
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}
