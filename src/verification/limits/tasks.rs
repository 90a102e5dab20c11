//! What is done for several requests and must come to its end, whichever of them goes away.

use std::sync::{Arc, OnceLock};

use tokio::{runtime::Handle, sync::watch};

/// Runs it where the engine runs: the threads that answer requests end sooner. Clones are the same.
#[derive(Clone)]
pub(super) struct Tasks {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: OnceLock<Handle>,
    running: watch::Sender<usize>,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                runtime: OnceLock::new(),
                running: watch::Sender::new(0),
            }),
        }
    }

    /// From now on they run here.
    pub(super) fn run_here(&self) {
        self.shared.runtime.get_or_init(Handle::current);
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.running.send_modify(|running| *running += 1);
        let running = Running(self.shared.clone());
        let task = async move {
            task.await;
            drop(running);
        };
        match self.shared.runtime.get() {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        };
    }

    /// Waits until all have ended.
    pub(super) async fn ended(&self) {
        let mut running = self.shared.running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

/// Counts for as long as it is there.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}
