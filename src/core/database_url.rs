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
    pub(crate) fn postgres_uri(&self) -> Option<&SecretString> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(uri) => Some(uri),
        }
    }

    /// The PostgreSQL URI with `parameters` added where it does not set them itself.
    pub(crate) fn postgres_uri_with(
        uri: &SecretString,
        parameters: &[(&str, &str)],
    ) -> SecretString {
        let mut uri = uri.expose_secret().to_owned();
        let query = PostgresParts::of(&uri).query.map(str::to_owned);
        let is_set = |name: &str| {
            let mut names = query.iter().flat_map(|query| query.split('&'));
            names.any(|parameter| parameter.split('=').next() == Some(name))
        };
        let mut separator = match query.as_deref() {
            None => "?",
            Some("") => "",
            Some(_) => "&",
        };
        for (name, value) in parameters {
            if !is_set(name) {
                uri.push_str(&format!("{separator}{name}={value}"));
                separator = "&";
            }
        }
        uri.into()
    }
}

/// A PostgreSQL URI as libpq takes it apart: the user ends at the first `@` if that comes before the
/// first `/`, whatever else stands there.
struct PostgresParts<'a> {
    hosts: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> PostgresParts<'a> {
    fn of(uri: &'a str) -> Self {
        let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let after_user = match rest.find(['@', '/']) {
            Some(at) if rest.as_bytes()[at] == b'@' => &rest[at + 1..],
            _ => rest,
        };
        let (before_query, query) = match after_user.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (after_user, None),
        };
        let (hosts, path) = before_query.split_once('/').unwrap_or((before_query, ""));
        Self { hosts, path, query }
    }

    /// Whether each host looks like one. Where a password is not encoded, a part of it would be taken
    /// for a host, a port or a database, and named in an error.
    fn is_plausible(&self) -> bool {
        let host_is_plausible = |host: &str| {
            let after_address = host.rfind(']').map_or(host, |end| &host[end..]);
            let port = after_address.split_once(':').map(|(_, port)| port);
            port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
        };
        !self.hosts.contains('@')
            && !self.path.contains('@')
            && self.hosts.split(',').all(host_is_plausible)
    }
}

/// Whether every `%` begins an encoded byte.
fn is_percent_encoded(uri: &str) -> bool {
    uri.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            if !PostgresParts::of(url).is_plausible() || !is_percent_encoded(url) {
                return Err(InvalidDatabaseUrl::NotEncoded);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with_parameters(url: &str) -> String {
        let url: DatabaseUrl = url.parse().unwrap();
        let DatabaseUrl::Postgres(uri) = url else {
            panic!("not PostgreSQL");
        };
        let uri = DatabaseUrl::postgres_uri_with(&uri, &[("a", "1"), ("b", "2")]);
        uri.expose_secret().to_owned()
    }

    #[test]
    fn parameters_are_added_where_they_are_not_set() {
        for (url, expected) in [
            ("postgres://h/d", "postgres://h/d?a=1&b=2"),
            ("postgres://h/d?", "postgres://h/d?a=1&b=2"),
            ("postgres://h/d?b=3", "postgres://h/d?b=3&a=1"),
            (
                "postgres://u:a=1?b=2@h/d",
                "postgres://u:a=1?b=2@h/d?a=1&b=2",
            ),
            ("postgres://h/d?ba=3", "postgres://h/d?ba=3&a=1&b=2"),
            ("postgres://", "postgres://?a=1&b=2"),
        ] {
            assert_eq!(with_parameters(url), expected);
        }
    }

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
