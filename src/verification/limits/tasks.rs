//! Tasks that serve several requests and must run to completion even if those requests are cancelled.

use std::sync::{Arc, OnceLock};

use tokio::{runtime::Handle, sync::watch};

/// Spawner of tasks on the runtime of the engine. The runtimes of the server's worker threads end earlier on shutdown.
/// Clones share the runtime and the count of tasks.
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

    /// Makes later tasks run on the current runtime.
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

    /// Waits until no task is running.
    pub(super) async fn wait_until_ended(&self) {
        let mut running = self.shared.running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

/// Guard that counts one running task until it is dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}
