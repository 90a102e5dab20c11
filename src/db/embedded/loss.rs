//! The ways in which the files of the embedded database can be lost while they are served.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// The loss of a file that is open. `Display` names no path: clients see it.
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
    /// It is back, and somebody else has written to it.
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

    /// Returns whether the path leads to another database.
    pub(super) fn is_another_database(&self) -> bool {
        self.part == Part::Database && self.kind == Kind::Replaced
    }

    /// The remedy for the operator.
    pub(super) fn remedy(&self) -> &'static str {
        match (self.part, self.kind) {
            (Part::Database, Kind::Replaced | Kind::Changed) => {
                "restart the service to serve the file that is there now"
            }
            (Part::Database, Kind::Gone) => {
                "mount its volume or move it back, and the service goes on; or put a backup there and restart \
                 the service"
            }
            (_, Kind::Unknown(_)) => "let the service's user look into the folder, and it goes on",
            (Part::Log | Part::Index, _) => {
                "move it back, and the service goes on; or restart the service"
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Database => "the database file",
            Part::Log => "the database's log (-wal)",
            Part::Index => "the index of the database's log (-shm)",
        };
        match self.kind {
            Kind::Gone => write!(f, "{part} is gone"),
            Kind::Replaced => write!(f, "another file is in the place of {part}"),
            Kind::Changed => write!(f, "{part} is back, but another process has changed it"),
            Kind::Unknown(kind) => write!(f, "{part} cannot be looked at ({kind})"),
        }
    }
}
