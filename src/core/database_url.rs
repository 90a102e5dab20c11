//! Which database to use: `sqlite://path` or `postgres://…`.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::postgres_url::PostgresUrl;

/// A checked `DATABASE_URL`. A PostgreSQL one holds a password, so it is never shown.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// The file of the embedded database.
    Sqlite(PathBuf),
    /// A connection URI as libpq reads it.
    Postgres(PostgresUrl),
}

/// Why a `DATABASE_URL` was refused. Says nothing of the URL's content: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    #[error("is neither `sqlite://path` nor `postgres://user@host/database`")]
    Scheme,
    #[error("names no file; give `sqlite://path/to/file.db`")]
    NoFile,
    #[error("asks for a database in memory, which no two connections share; give a file")]
    InMemory,
    #[error(
        "is not a URL that PostgreSQL's library reads as you mean it; in user name and password, \
         percent-encode every character besides letters and digits (`@` is `%40`, `/` is `%2F`)"
    )]
    NotEncoded,
}

impl DatabaseUrl {
    /// The embedded database's file, if that is what this is.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// The connection URI, if it is PostgreSQL's.
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
            return PostgresUrl::parse(url).map(Self::Postgres);
        }
        match url.strip_prefix("sqlite://") {
            None => Err(InvalidDatabaseUrl::Scheme),
            Some("") => Err(InvalidDatabaseUrl::NoFile),
            Some(path) if path.ends_with('/') => Err(InvalidDatabaseUrl::NoFile),
            Some(path) if path.starts_with(":memory:") => Err(InvalidDatabaseUrl::InMemory),
            Some(path) => Ok(Self::Sqlite(path.into())),
        }
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
    fn what_libpq_takes_is_taken() {
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
    fn a_password_that_would_be_taken_for_something_else_is_refused() {
        for url in [
            "postgres://u:hunter%zz22@h/d",
            "postgres://u:hunter%2@h/d",
            "postgres://u:hunt/er22@h/d",
            "postgres://u:hunt@er22@h/d",
            "postgres://u:hunter22",
        ] {
            assert!(url.parse::<DatabaseUrl>().is_err(), "{url}");
        }
    }
}
