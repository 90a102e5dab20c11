//! Detects that the open files of the embedded database are missing at their paths, or were replaced.
//!
//! SQLite opens its files by path, and the connections of a process share state about them. When a file is moved,
//! removed or replaced, open connections continue with the old file, and changes to it are lost. A new connection
//! would combine the new database with the old write-ahead log (WAL), which damages the database.
//!
//! So the device and inode numbers at the paths are compared with those that were opened:
//!
//! - before each use of the database,
//! - after each change, before it is acknowledged,
//! - before and after the opening of each connection,
//! - four times a second, by a thread.
//!
//! While they differ, the database is not used and no file is created. When the same files are back, the database is
//! used again with new connections. The exception is a database that another process has changed meanwhile, which
//! SQLite would not notice. Files that replaced the open ones are not touched until the next start.
//!
//! One connection is never checked out. While it is open, SQLite neither removes the log nor creates another one.

mod identity;
mod log;
mod loss;
mod open;
mod record;
mod reserve;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diesel::{SqliteConnection, connection::SimpleConnection as _};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

pub(super) use self::{
    identity::beside,
    log::LOG_LIMIT,
    open::open_existing,
    record::{Record, SERVING, require_own_log, set_aside_foreign_log},
};
use self::{
    identity::{FilePaths, Fingerprint, Identity},
    loss::{Loss, Part},
    reserve::Reserve,
};
use super::ConnectError;
use crate::domain::error::Error;

/// Interval at which the paths are checked while the database is not in use.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// Time to wait for another process to release its lock when the database is opened.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// Open files of one database. All pools of the process share them.
#[derive(Debug)]
pub(super) struct EmbeddedFile {
    paths: FilePaths,
    opened: Opened,
    state: watch::Sender<Option<Loss>>,
    /// Number of times that the files were lost. A connection opened before the last loss is not used again.
    losses: AtomicU64,
    /// Time at which the database was last seen at its path, and its fingerprint then.
    last_seen: Mutex<(Instant, Fingerprint)>,
    keeper: Mutex<Keeper>,
    reserve: Reserve,
}

/// Identities of the files that were opened.
#[derive(Debug)]
struct Opened {
    database: Identity,
    log: Identity,
    index: Identity,
}

/// Connection that stays open and is never checked out.
struct Keeper {
    conn: SqliteConnection,
    /// Number of the loss after which the log was checkpointed, and the fingerprint of the database after that.
    rescued: Option<(u64, Fingerprint)>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

impl EmbeddedFile {
    /// Opens the files of an existing database.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, ConnectError> {
        let failed = |reason: &dyn ToString| ConnectError::sqlite(path, reason);
        require_own_log(path).map_err(|error| failed(&error))?;
        let paths = FilePaths::of(path);
        let database = Identity::at(path).map_err(|error| failed(&error))?;
        let mut conn = open_existing(path, OPEN_WITHIN, || Ok(()))?;
        // The query makes SQLite open the log and its index. From then on the connection does not wait for locks:
        // work that fails is done later.
        conn.batch_execute("SELECT count(*) FROM sqlite_schema; PRAGMA busy_timeout = 0")
            .map_err(|error| failed(&error))?;
        let opened = Opened {
            database,
            log: Identity::at(&paths.log).map_err(|error| failed(&error))?,
            index: Identity::at(&paths.index).map_err(|error| failed(&error))?,
        };
        let file = Self {
            paths,
            opened,
            state: watch::Sender::new(None),
            losses: AtomicU64::new(0),
            last_seen: Mutex::new((
                Instant::now(),
                Fingerprint::at(path).map_err(|error| failed(&error))?,
            )),
            keeper: Mutex::new(Keeper {
                conn,
                rescued: None,
            }),
            reserve: Reserve::beside(path).map_err(|error| failed(&error))?,
        };
        match file.find_loss() {
            None => Ok(Arc::new(file)),
            Some(loss) => Err(failed(&loss)),
        }
    }

    /// Starts the threads that watch and maintain the files, until the last reference to them is dropped.
    pub(super) fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        self.spawn_every(CHECK_EVERY, "database-file", Self::check)?;
        self.spawn_every(CHECK_EVERY, "database-log", Self::maintain)
    }

    fn spawn_every(
        self: &Arc<Self>,
        interval: Duration,
        name: &str,
        work: impl Fn(&Self) + Send + 'static,
    ) -> std::io::Result<()> {
        let file = Arc::downgrade(self);
        let run = move || {
            while let Some(file) = file.upgrade() {
                work(&file);
                drop(file);
                thread::sleep(interval);
            }
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map(drop)
    }

    fn check(&self) {
        let fingerprint = Fingerprint::at(&self.paths.database);
        if let (Ok(()), Ok(fingerprint)) = (self.require(), fingerprint) {
            *self.last_seen.lock() = (Instant::now(), fingerprint);
        }
    }

    /// Fails unless the paths lead to the open files.
    pub(super) fn require(&self) -> Result<(), Error> {
        let found = self.find_loss();
        let lost = |loss: &Loss| Err(Error::Unavailable(loss.to_string().into()));
        match found {
            // `resume` alone decides whether the files can be used again.
            None => self.state.borrow().as_ref().map_or(Ok(()), lost),
            Some(loss) => {
                let result = lost(&loss);
                self.set_loss(Some(loss));
                result
            }
        }
    }

    /// Returns a description of the loss if the files are lost.
    pub(super) fn loss(&self) -> Option<String> {
        self.state.borrow().as_ref().map(Loss::to_string)
    }

    fn was_replaced(&self) -> bool {
        let state = self.state.borrow();
        state.as_ref().is_some_and(Loss::is_another_database)
    }

    /// Waits until the files are lost. Returns at once if they are.
    pub(super) async fn lost(&self) {
        // This cannot fail while `self` owns the sender.
        let _ = self.state.subscribe().wait_for(Option::is_some).await;
    }

    /// Returns the number of times that the files have been lost so far.
    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    fn find_loss(&self) -> Option<Loss> {
        let Self { paths, opened, .. } = self;
        [
            (Part::Database, &paths.database, opened.database),
            (Part::Log, &paths.log, opened.log),
            (Part::Index, &paths.index, opened.index),
        ]
        .into_iter()
        .find_map(|(part, path, opened)| match Identity::at(path) {
            Ok(found) if found == opened => None,
            Ok(_) => Some(Loss::replaced(part, path)),
            Err(error) => Some(Loss::failed(part, path, &error)),
        })
    }

    fn set_loss(&self, found: Option<Loss>) {
        self.state.send_if_modified(|state| {
            match (&*state, &found) {
                (before, after) if before == after => return false,
                (None, Some(loss)) => {
                    self.losses.fetch_add(1, Ordering::AcqRel);
                    let (file, remedy) = (loss.file.display(), loss.remedy());
                    tracing::error!(%file, remedy, "stopped using the database: {loss}");
                }
                (Some(_), Some(loss)) => {
                    let (file, remedy) = (loss.file.display(), loss.remedy());
                    tracing::warn!(%file, remedy, "still not using the database: {loss}");
                }
                (_, None) => {
                    let file = self.paths.database.display();
                    tracing::info!(%file, "using the database again: its files are back");
                }
            }
            *state = found;
            true
        });
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock()
    }
}
