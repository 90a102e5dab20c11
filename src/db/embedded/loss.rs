//! Describes how a file of the embedded database was lost while it was served, and the remedy.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Loss of an open file. `Display` shows no path, because clients see the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub file: PathBuf,
    part: Part,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Database,
    Log,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gone,
    Replaced,
    /// The file is back, but another process has written to it.
    Changed,
    Unknown(io::ErrorKind),
}

impl Loss {
    pub(super) fn replaced(part: Part, file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            part,
            kind: Kind::Replaced,
        }
    }

    pub(super) fn changed(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            part: Part::Database,
            kind: Kind::Changed,
        }
    }

    pub(super) fn failed(part: Part, file: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Kind::Gone,
            kind => Kind::Unknown(kind),
        };
        Self {
            file: file.to_owned(),
            part,
            kind,
        }
    }

    /// Returns whether another database is at the path.
    pub(super) fn is_another_database(&self) -> bool {
        self.part == Part::Database && self.kind == Kind::Replaced
    }

    /// Returns the remedy for the operator.
    pub(super) fn remedy(&self) -> &'static str {
        match (self.part, self.kind) {
            (Part::Database, Kind::Replaced | Kind::Changed) => {
                "restart the service to serve the file that is at the path now"
            }
            (Part::Database, Kind::Gone) => {
                "mount its volume or move it back, and the service resumes; or put a backup there and restart \
                 the service"
            }
            (_, Kind::Unknown(_)) => {
                "give the service's user access to the folder, and the service resumes"
            }
            (Part::Log | Part::Index, _) => {
                "move it back, and the service resumes; or restart the service"
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Database => "the database file",
            Part::Log => "the database's write-ahead log (-wal)",
            Part::Index => "the index of the database's write-ahead log (-shm)",
        };
        match self.kind {
            Kind::Gone => write!(f, "{part} is gone"),
            Kind::Replaced => write!(f, "{part} was replaced by another file"),
            Kind::Changed => write!(f, "{part} is back, but another process has changed it"),
            Kind::Unknown(kind) => write!(f, "{part} cannot be accessed ({kind})"),
        }
    }
}
