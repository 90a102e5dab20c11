//! How far an orderly stop has come.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::watch;

/// Told once and seen everywhere. Clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stage: Arc<AtomicU8>,
    idle_may_end: watch::Sender<bool>,
}

const BEGUN: u8 = 1;
const CLOSING: u8 = 2;

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            stage: Arc::default(),
            idle_may_end: watch::Sender::new(false),
        }
    }
}

impl Shutdown {
    /// From now on the service is not ready, and each answer is the last on its connection.
    pub fn begin(&self) {
        self.stage.fetch_max(BEGUN, Ordering::Relaxed);
    }

    /// From now on connections are closed on which nothing happens.
    pub fn close_idle(&self) {
        self.stage.fetch_max(CLOSING, Ordering::Relaxed);
        self.idle_may_end.send_replace(true);
    }

    pub fn has_begun(&self) -> bool {
        self.stage.load(Ordering::Relaxed) >= BEGUN
    }

    pub(crate) fn closes_idle(&self) -> bool {
        self.stage.load(Ordering::Relaxed) >= CLOSING
    }

    /// Waits for [`Shutdown::close_idle`].
    pub(crate) fn idle_closed(&self) -> impl Future<Output = ()> + use<> {
        let mut told = self.idle_may_end.subscribe();
        async move {
            // Never told if nobody is left who could.
            if told.wait_for(|told| *told).await.is_err() {
                std::future::pending().await
            }
        }
    }
}
