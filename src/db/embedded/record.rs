//! Which database and which log were served together, for whoever opens the files next.
//!
//! A log (`-wal`) does not say which database it belongs to. If a process is killed and a backup is moved to the
//! place of its database, SQLite would bring the old log's changes into the backup, which damages it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    EmbeddedFile,
    identity::{Lasting, Names, beside},
};

/// The place where it is kept: the file that whoever serves the database has locked.
pub(in crate::db) const SERVING: &str = ".serving";

/// A database and its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) struct Record {
    database: Lasting,
    log: Lasting,
}

/// Why files cannot be used together.
#[derive(Debug, thiserror::Error)]
pub(in crate::db) enum Unfit {
    #[error(
        "it was replaced while it is served, and {} belongs to the file before it; stop the service first",
        .0.display()
    )]
    Served(PathBuf),
    #[error("it was replaced, and cannot be put in order: cannot open {}: {reason}", lock.display())]
    Locked { lock: PathBuf, reason: io::Error },
    #[error(
        "it is missing, but {} is there, which has the latest changes of a database; move that database back, or \
         move this file away to begin with an empty one", .0.display()
    )]
    NoDatabase(PathBuf),
    #[error("cannot set {} aside, which belongs to another database: {reason}", log.display())]
    Stuck { log: PathBuf, reason: io::Error },
}

impl Record {
    pub(in crate::db) fn of(file: &EmbeddedFile) -> io::Result<Self> {
        Ok(Self {
            database: Lasting::at(&file.names.database)?,
            log: Lasting::at(&file.names.log)?,
        })
    }

    /// Writes it into the locked file.
    pub(in crate::db) fn write(&self, lock: &File) -> io::Result<()> {
        let (database, log) = (self.database.to_text(), self.log.to_text());
        lock.set_len(0)?;
        lock.write_all_at(format!("{database}\n{log}\n").as_bytes(), 0)?;
        lock.sync_data()
    }

    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines().map(Lasting::of_text);
        Some(Self {
            database: lines.next()??,
            log: lines.next()??,
        })
    }
}

/// Sees to it that a database is used only together with its own log.
pub(in crate::db) fn settle(database: &Path) -> Result<(), Unfit> {
    if belong_together(database)? {
        return Ok(());
    }
    let path = beside(database, SERVING);
    let locked = |reason| Unfit::Locked {
        lock: path.clone(),
        reason,
    };
    let lock = OpenOptions::new().write(true).open(&path);
    let lock = lock.map_err(locked)?;
    match lock.try_lock() {
        Ok(()) => settle_unserved(database, &lock),
        // Who has it has the log and its index open, also if they are empty.
        Err(TryLockError::WouldBlock) => Err(Unfit::Served(Names::of(database).log)),
        Err(TryLockError::Error(reason)) => Err(locked(reason)),
    }
}

/// Does so for the process that has the lock: sets a log aside that belongs to another database.
pub(in crate::db) fn settle_unserved(database: &Path, lock: &File) -> Result<(), Unfit> {
    let Names { log, index, .. } = Names::of(database);
    if belong_together(database)? {
        return Ok(());
    }
    let stuck = |reason| Unfit::Stuck {
        log: log.clone(),
        reason,
    };
    if is_the_log_of(&log, Record::read(&beside(database, SERVING))) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut aside = log.clone().into_os_string();
        aside.push(format!(".{}", since.map_or(0, |since| since.as_secs())));
        let aside = PathBuf::from(aside);
        fs::rename(&log, &aside).map_err(stuck)?;
        // It has nothing that is not in the log.
        let _ = fs::remove_file(index);
        let (database, log) = (database.display(), aside.display());
        tracing::warn!(
            %database, %log,
            "set a log aside: it belongs to the database that was there before; remove it if nobody misses that"
        );
    }
    // It is of a database that is not there any more.
    lock.set_len(0).map_err(stuck)
}

fn belong_together(database: &Path) -> Result<bool, Unfit> {
    let Ok(found) = Lasting::at(database) else {
        let log = Names::of(database).log;
        return match fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            true => Err(Unfit::NoDatabase(log)),
            false => Ok(true),
        };
    };
    let served = Record::read(&beside(database, SERVING));
    Ok(served.is_none_or(|served| served.database == found))
}

fn is_the_log_of(log: &Path, served: Option<Record>) -> bool {
    let has_changes = fs::metadata(log).is_ok_and(|log| log.len() > 0);
    let found = Lasting::at(log).ok();
    has_changes && found.is_some() && found == served.map(|served| served.log)
}
