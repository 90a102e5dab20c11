//! `DATABASE_URL`: `sqlite://path` or `postgres://…`.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    file_name::{self, UnlikelyName},
    postgres_url::{self, PostgresUrl},
};

/// Validated `DATABASE_URL`. `Debug` redacts a PostgreSQL URL, since it may hold a password.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// File of the embedded database.
    Sqlite(PathBuf),
    /// Connection URI as libpq reads it.
    Postgres(PostgresUrl),
}

/// Reason why a `DATABASE_URL` was rejected. The text never contains the URL: it may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    #[error("is neither `sqlite://path` nor `postgres://user@host/database`")]
    Scheme,
    #[error("names no file; give `sqlite://path/to/file.db`")]
    NoFile,
    #[error("names a database in memory, which connections cannot share; give a file")]
    InMemory,
    #[error(transparent)]
    Unlikely(#[from] UnlikelyName),
    #[error(
        "contains `?` or `#`, but a `sqlite://` URL has no parameters; give the path alone, such as \
         sqlite://data/latchkey.db"
    )]
    Parameters,
    #[error(
        "contains a percent-encoded character, such as `%20`, which is not decoded in a `sqlite://` URL; write the \
         character itself"
    )]
    Encoded,
    #[error(
        "is not a valid PostgreSQL URL; in the user name and password, percent-encode every character \
         besides letters and digits (`@` is `%40`, `/` is `%2F`)"
    )]
    NotEncoded,
}

impl DatabaseUrl {
    /// Returns the path of the SQLite file, or `None` for PostgreSQL.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Returns the connection URI, or `None` for SQLite.
    pub(crate) fn postgres(&self) -> Option<&PostgresUrl> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(url) => Some(url),
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            if url.contains(file_name::is_invisible) {
                return Err(UnlikelyName::Invisible.into());
            }
            return PostgresUrl::parse(url).map(Self::Postgres);
        }
        match url.strip_prefix("sqlite://") {
            None => Err(InvalidDatabaseUrl::Scheme),
            Some(path) => Ok(Self::Sqlite(sqlite_file(path)?)),
        }
    }
}

/// Returns the file that `sqlite://path` names.
///
/// The path is used as written. Syntax that other programs interpret in such a URL is rejected: here it would become
/// part of the name of another, empty database.
fn sqlite_file(path: &str) -> Result<PathBuf, InvalidDatabaseUrl> {
    if path.starts_with(":memory:") {
        return Err(InvalidDatabaseUrl::InMemory);
    }
    file_name::check(path)?;
    if path.starts_with("file:") {
        return Err(UnlikelyName::Url.into());
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    if path.contains(['?', '#']) {
        Err(InvalidDatabaseUrl::Parameters)
    } else if path.split('%').skip(1).any(postgres_url::begins_with_byte) {
        Err(InvalidDatabaseUrl::Encoded)
    } else if ["", ".", ".."].contains(&name) {
        Err(InvalidDatabaseUrl::NoFile)
    } else {
        Ok(path.into())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres(_) => f.write_str("Postgres([REDACTED])"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_url_that_libpq_accepts_is_accepted() {
        for url in [
            "postgres://localhost",
            "postgresql://u@localhost:5432/d",
            "postgres://u:p%40ss@[::1]:5432,other:5433/d?target_session_attrs=any",
            "postgres:///d?host=/var/run/postgresql&user=me@server",
        ] {
            assert!(url.parse::<DatabaseUrl>().is_ok(), "{url}");
        }
    }

    #[test]
    fn sqlite_url_with_an_implausible_path_is_rejected() {
        use InvalidDatabaseUrl::{Encoded, InMemory, NoFile, Parameters, Unlikely};
        for (path, why) in [
            ("", NoFile),
            ("data/", NoFile),
            ("data/..", NoFile),
            (":memory:", InMemory),
            ("data/x.db?mode=rwc", Parameters),
            ("data/x.db#fragment", Parameters),
            ("data/my%20keys.db", Encoded),
            ("data/x.db\r", Unlikely(UnlikelyName::Invisible)),
            ("~/x.db", Unlikely(UnlikelyName::Home)),
            ("file:x.db", Unlikely(UnlikelyName::Url)),
            ("/C:/x.db", Unlikely(UnlikelyName::Windows)),
            (" data/x.db", Unlikely(UnlikelyName::Blank)),
        ] {
            let read = format!("sqlite://{path}").parse::<DatabaseUrl>();
            assert_eq!(read.err(), Some(why), "{path:?}");
        }
        for path in ["data/my keys.db", "100%.db", "50%off.db", "/abs/x.db"] {
            let read = format!("sqlite://{path}").parse::<DatabaseUrl>().unwrap();
            assert_eq!(read.sqlite_path(), Some(Path::new(path)));
        }
    }

    #[test]
    fn postgres_url_with_an_unencoded_password_is_rejected() {
        for url in [
            "postgres://u:hunter%zz22@h/d",
            "postgres://u:hunter%2@h/d",
            "postgres://u:hunt/er22@h/d",
            "postgres://u:hunt@er22@h/d",
            "postgres://u:hunter22",
            "postgres://u:hunter22@h/d\r",
            "postgres://u:hunter\n22@h/d",
        ] {
            assert!(url.parse::<DatabaseUrl>().is_err(), "{url}");
        }
    }
}
