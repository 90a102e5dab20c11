//! Where Prometheus asks: a listener apart from the service's, which the network may guard otherwise.

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

/// Few ask. Each connection above it waits.
const MAX_CONNECTIONS: usize = 64;
/// How long one may take over its request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
const STOP_WITHIN_SECONDS: u64 = 1;

/// Has its address; does not answer yet.
pub struct Listener {
    socket: TcpListener,
}

/// Answers, until it is told to stop.
pub struct Listening {
    handle: ServerHandle,
}

impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Answers from now on, on threads of its own, whatever the others do.
    pub fn start(self, metrics: Arc<Metrics>) -> io::Result<Listening> {
        let address = self.socket.local_addr()?;
        let server = HttpServer::new(move || {
            App::new()
                .app_data(Data::new(metrics.clone()))
                .route("/metrics", web::get().to(scrape))
        })
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(HEAD_WITHIN)
        .shutdown_timeout(STOP_WITHIN_SECONDS)
        .disable_signals()
        .listen(self.socket)?
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        tracing::info!("metrics on http://{address}/metrics");
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
        // It is written to memory.
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}
