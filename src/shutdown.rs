//! Stages of a shutdown, visible to all parts of the server.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::watch;

/// Stage of the shutdown. Clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stage: Arc<AtomicU8>,
    closes_idle: watch::Sender<bool>,
}

const BEGUN: u8 = 1;
const CLOSING: u8 = 2;

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            stage: Arc::default(),
            closes_idle: watch::Sender::new(false),
        }
    }
}

impl Shutdown {
    /// Begins the shutdown: the service is no longer ready, and each response is the last on its connection.
    pub fn begin(&self) {
        self.stage.fetch_max(BEGUN, Ordering::Relaxed);
    }

    /// Makes idle connections close from now on.
    pub fn close_idle(&self) {
        self.stage.fetch_max(CLOSING, Ordering::Relaxed);
        self.closes_idle.send_replace(true);
    }

    pub fn has_begun(&self) -> bool {
        self.stage.load(Ordering::Relaxed) >= BEGUN
    }

    pub(crate) fn closes_idle(&self) -> bool {
        self.stage.load(Ordering::Relaxed) >= CLOSING
    }

    /// Waits for [`Shutdown::close_idle`].
    pub(crate) fn idle_closed(&self) -> impl Future<Output = ()> + use<> {
        let mut closes_idle = self.closes_idle.subscribe();
        async move {
            // The sender is gone: `close_idle` cannot be called any more.
            if closes_idle.wait_for(|closes| *closes).await.is_err() {
                std::future::pending().await
            }
        }
    }
}
