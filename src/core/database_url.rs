//! Which database to use: `sqlite://path` or `postgres://…`.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use secrecy::{ExposeSecret, SecretString};

/// A checked `DATABASE_URL`. A PostgreSQL one holds a password, so it is never shown.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// The file of the embedded database.
    Sqlite(PathBuf),
    /// A connection URI as libpq reads it.
    Postgres(SecretString),
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
}

impl DatabaseUrl {
    /// The embedded database's file, if that is what this is.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// The PostgreSQL URI with `parameters` added where it does not set them itself.
    pub(crate) fn postgres_uri_with(
        uri: &SecretString,
        parameters: &[(&str, &str)],
    ) -> SecretString {
        let mut uri = uri.expose_secret().to_owned();
        for (name, value) in parameters {
            if !uri.contains(&format!("{name}=")) {
                let separator = if uri.contains('?') { '&' } else { '?' };
                uri.push(separator);
                uri.push_str(&format!("{name}={value}"));
            }
        }
        uri.into()
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned().into()));
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
