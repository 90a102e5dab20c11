//! The files of the embedded database that this process has open, and whether their paths still lead there.
//!
//! SQLite opens its files by name, and shares what it knows of them between the connections of a process. When
//! a file is moved away, removed or replaced, open connections go on with the old one, into which changes are
//! lost; a new connection would take the new database and the old log for one database, and damage it. So the
//! paths are compared with what was opened (device and inode number): before each use, after each change,
//! before it is acknowledged, around the opening of each connection, and four times a second by a thread.
//! While they differ nothing uses the database, and nothing is created. When the same files are back, all
//! goes on with new connections, unless somebody else has written to the database: SQLite would not notice. Other
//! files are left alone until the next start.
//!
//! One connection is never lent. While it is open SQLite neither removes the log nor makes another.

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
    record::{Record, SERVING, settle, settle_unserved},
};
use self::{
    identity::{Identity, Names, Print},
    loss::{Loss, Part},
    reserve::Reserve,
};
use super::ConnectError;
use crate::domain::error::Error;

/// The interval at which the paths are looked at while nobody uses the database.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The time that another process may take to let go of the database when it is opened.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// The files of one database. Every pool of the process shares it.
#[derive(Debug)]
pub(super) struct EmbeddedFile {
    names: Names,
    opened: Opened,
    state: watch::Sender<Option<Loss>>,
    /// The number of times that the files were lost. A connection of before is not used again.
    losses: AtomicU64,
    /// The size and times of the database when it was last seen at its path, and when that was.
    seen: Mutex<(Instant, Print)>,
    keeper: Mutex<Keeper>,
    reserve: Reserve,
}

/// The files that the paths led to when they were opened.
#[derive(Debug)]
struct Opened {
    database: Identity,
    log: Identity,
    index: Identity,
}

/// The connection that is never lent.
struct Keeper {
    conn: SqliteConnection,
    /// The loss after which the log was emptied, and what the database looked like then.
    rescued: Option<(u64, Print)>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

impl EmbeddedFile {
    /// Opens the files of a database that is there.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, ConnectError> {
        let failed = |reason: &dyn ToString| ConnectError::sqlite(path, reason);
        settle(path).map_err(|error| failed(&error))?;
        let names = Names::of(path);
        let database = Identity::at(path).map_err(|error| failed(&error))?;
        let mut conn = open_existing(path, OPEN_WITHIN, || Ok(()))?;
        // Opens the log and its index. From then on it waits for nobody: what cannot be done is done later.
        conn.batch_execute("SELECT count(*) FROM sqlite_schema; PRAGMA busy_timeout = 0")
            .map_err(|error| failed(&error))?;
        let opened = Opened {
            database,
            log: Identity::at(&names.log).map_err(|error| failed(&error))?,
            index: Identity::at(&names.index).map_err(|error| failed(&error))?,
        };
        let this = Self {
            names,
            opened,
            state: watch::Sender::new(None),
            losses: AtomicU64::new(0),
            seen: Mutex::new((
                Instant::now(),
                Print::at(path).map_err(|error| failed(&error))?,
            )),
            keeper: Mutex::new(Keeper {
                conn,
                rescued: None,
            }),
            reserve: Reserve::beside(path).map_err(|error| failed(&error))?,
        };
        match this.find_loss() {
            None => Ok(Arc::new(this)),
            Some(loss) => Err(failed(&loss)),
        }
    }

    /// Watches over the files until nobody has them any more.
    pub(super) fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        self.every(LOOK_EVERY, "database-file", Self::look)?;
        self.every(LOOK_EVERY, "database-log", Self::keep)
    }

    fn every(
        self: &Arc<Self>,
        time: Duration,
        name: &str,
        work: impl Fn(&Self) + Send + 'static,
    ) -> std::io::Result<()> {
        let file = Arc::downgrade(self);
        let run = move || {
            while let Some(file) = file.upgrade() {
                work(&file);
                drop(file);
                thread::sleep(time);
            }
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map(drop)
    }

    fn look(&self) {
        let print = Print::at(&self.names.database);
        if let (Ok(()), Ok(print)) = (self.require(), print) {
            *self.seen.lock() = (Instant::now(), print);
        }
    }

    /// Requires that the paths lead to the files that are open.
    pub(super) fn require(&self) -> Result<(), Error> {
        let found = self.find_loss();
        let lost = |loss: &Loss| Err(Error::Unavailable(loss.to_string().into()));
        match found {
            // Whether it can be used again is decided elsewhere.
            None => self.state.borrow().as_ref().map_or(Ok(()), lost),
            Some(loss) => {
                let ended = lost(&loss);
                self.change_to(Some(loss));
                ended
            }
        }
    }

    /// Returns the loss of the files, if they are lost.
    pub(super) fn loss(&self) -> Option<String> {
        self.state.borrow().as_ref().map(Loss::to_string)
    }

    fn has_another_in_its_place(&self) -> bool {
        let state = self.state.borrow();
        state.as_ref().is_some_and(Loss::is_another_database)
    }

    /// Waits until the files are lost, which may be now.
    pub(super) async fn lost(&self) {
        // It cannot fail while `self` has the sender.
        let _ = self.state.subscribe().wait_for(Option::is_some).await;
    }

    /// The number of times that the files were lost so far.
    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    fn find_loss(&self) -> Option<Loss> {
        let Self { names, opened, .. } = self;
        [
            (Part::Database, &names.database, opened.database),
            (Part::Log, &names.log, opened.log),
            (Part::Index, &names.index, opened.index),
        ]
        .into_iter()
        .find_map(|(part, path, known)| match Identity::at(path) {
            Ok(found) if found == known => None,
            Ok(_) => Some(Loss::replaced(part, path)),
            Err(error) => Some(Loss::failed(part, path, &error)),
        })
    }

    fn change_to(&self, found: Option<Loss>) {
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
                    let file = self.names.database.display();
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
