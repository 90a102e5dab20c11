//! PostgreSQL connection URIs as libpq reads them, and the hosts that they name.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use secrecy::{ExposeSecret as _, SecretString};

use super::database_url::InvalidDatabaseUrl;

/// Connection URI. It may contain a password, so it is never shown. Clones share the choice of the host that is tried
/// first.
#[derive(Clone)]
pub struct PostgresUrl {
    /// One URI per host, in the order of the list. A single URI where libpq chooses among the hosts.
    hosts: Arc<[SecretString]>,
    /// Index of the host that accepted a connection last.
    preferred: Arc<AtomicUsize>,
}

impl PostgresUrl {
    pub(super) fn parse(uri: &str) -> Result<Self, InvalidDatabaseUrl> {
        let parts = Parts::of(uri);
        if !parts.is_plausible() || !is_percent_encoded(uri) {
            return Err(InvalidDatabaseUrl::NotEncoded);
        }
        Ok(Self {
            hosts: parts.uri_per_host(uri),
            preferred: Arc::default(),
        })
    }

    /// Returns the URIs to try, one per host, starting with the host that accepted a connection last.
    ///
    /// A host that is down then costs its time limit once, and not for each new connection.
    pub(crate) fn hosts(&self) -> impl ExactSizeIterator<Item = Host<'_>> {
        let count = self.hosts.len();
        let first = self.preferred.load(Ordering::Relaxed);
        (0..count).map(move |offset| Host {
            url: self,
            index: (first + offset) % count,
        })
    }
}

/// Host of a [`PostgresUrl`].
pub(crate) struct Host<'a> {
    url: &'a PostgresUrl,
    index: usize,
}

impl Host<'_> {
    /// Returns the URI of this host, with those `parameters` added that it does not set itself.
    pub(crate) fn uri_with(&self, parameters: &[(&str, String)]) -> SecretString {
        let mut uri = self.uri().to_owned();
        let parts = Parts::of(self.uri());
        let mut separator = match parts.query {
            None => "?",
            Some("") => "",
            Some(_) => "&",
        };
        for (name, value) in parameters {
            if !parts.sets(name) {
                uri.push_str(&format!("{separator}{name}={value}"));
                separator = "&";
            }
        }
        uri.into()
    }

    /// Returns whether the connection may use a Unix socket: the URI names no host, or a path.
    pub(crate) fn may_be_local(&self) -> bool {
        let parts = Parts::of(self.uri());
        let is_path = |host: &str| host.is_empty() || host.starts_with(['/', '@', '%']);
        let in_query = parts
            .parameters()
            .find(|(name, _)| matches!(*name, "host" | "hostaddr"));
        match in_query {
            Some((_, hosts)) => hosts.split(',').any(is_path),
            None => is_path(parts.hosts),
        }
    }

    /// Makes this host the first to be tried.
    pub(crate) fn prefer(&self) {
        self.url.preferred.store(self.index, Ordering::Relaxed);
    }

    fn uri(&self) -> &str {
        self.url.hosts[self.index].expose_secret()
    }
}

/// Parts of a URI as libpq splits it: the user part ends at the first `@` if that comes before the first `/`,
/// regardless of other characters.
struct Parts<'a> {
    before_hosts: &'a str,
    hosts: &'a str,
    after_hosts: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(uri: &'a str) -> Self {
        let start = uri.find("://").map_or(0, |at| at + 3);
        let start = match uri[start..].find(['@', '/']) {
            Some(at) if uri.as_bytes()[start + at] == b'@' => start + at + 1,
            _ => start,
        };
        let (before_hosts, rest) = uri.split_at(start);
        let (hosts, after_hosts) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = match after_hosts.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (after_hosts, None),
        };
        Self {
            before_hosts,
            hosts,
            after_hosts,
            path: path.strip_prefix('/').unwrap_or(path),
            query,
        }
    }

    /// Returns whether each host is plausible. A part of a password that is not encoded would be read as a host, a
    /// port or a database, and appear in an error.
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

    fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let parameters = self.query.into_iter().flat_map(|query| query.split('&'));
        parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
    }

    fn sets(&self, name: &str) -> bool {
        self.parameters().any(|(set, _)| set == name)
    }

    /// Splits the URI into one per host, unless the URI tells libpq how to choose among the hosts.
    fn uri_per_host(&self, uri: &str) -> Arc<[SecretString]> {
        let choosing = ["host", "hostaddr", "port", "target_session_attrs"];
        let choosing = choosing.into_iter().chain(["load_balance_hosts"]);
        if choosing.into_iter().any(|name| self.sets(name)) {
            return [uri.to_owned().into()].into();
        }
        let (before, after) = (self.before_hosts, self.after_hosts);
        let hosts = self.hosts.split(',');
        hosts
            .map(|host| format!("{before}{host}{after}").into())
            .collect()
    }
}

/// Returns whether every `%` starts an encoded byte.
fn is_percent_encoded(uri: &str) -> bool {
    uri.split('%').skip(1).all(begins_with_byte)
}

/// Returns whether the text after a `%` starts with a byte in hexadecimal.
pub(super) fn begins_with_byte(rest: &str) -> bool {
    let digits = rest.as_bytes().get(..2);
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts_of(uri: &str) -> Vec<String> {
        let url = PostgresUrl::parse(uri).unwrap();
        let hosts = url.hosts().map(|host| host.uri().to_owned());
        hosts.collect()
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
            let parsed = PostgresUrl::parse(url).unwrap();
            let parameters = [("a", "1".to_owned()), ("b", "2".to_owned())];
            let uri = parsed.hosts().next().unwrap().uri_with(&parameters);
            assert_eq!(uri.expose_secret(), expected);
        }
    }

    #[test]
    fn list_of_hosts_becomes_one_uri_per_host() {
        assert_eq!(
            hosts_of("postgres://u:p@a:1,[::1]:2,c/d?x=y"),
            [
                "postgres://u:p@a:1/d?x=y",
                "postgres://u:p@[::1]:2/d?x=y",
                "postgres://u:p@c/d?x=y"
            ]
        );
        assert_eq!(hosts_of("postgres://a,b"), ["postgres://a", "postgres://b"]);
        assert_eq!(hosts_of("postgres://a,b?x=y").len(), 2);
    }

    #[test]
    fn list_of_hosts_with_a_choice_by_libpq_stays_one_uri() {
        for uri in [
            "postgres://a,b/d?target_session_attrs=any",
            "postgres://a,b/d?load_balance_hosts=random",
            "postgres:///d?host=a,b&port=1,2",
        ] {
            assert_eq!(hosts_of(uri), [uri]);
        }
    }

    #[test]
    fn host_that_accepted_a_connection_is_tried_first_by_every_clone() {
        let url = PostgresUrl::parse("postgres://a,b,c").unwrap();
        url.clone().hosts().nth(1).unwrap().prefer();
        let order: Vec<_> = url.hosts().map(|host| host.uri().to_owned()).collect();
        assert_eq!(order, ["postgres://b", "postgres://c", "postgres://a"]);
    }

    #[test]
    fn unix_sockets_are_recognised() {
        for (uri, local) in [
            ("postgres://", true),
            ("postgres:///d", true),
            ("postgres://%2Fvar%2Frun/d", true),
            ("postgres:///d?host=/var/run", true),
            ("postgres:///d?host=db", false),
            ("postgres://u@db:5432/d", false),
        ] {
            let url = PostgresUrl::parse(uri).unwrap();
            assert_eq!(url.hosts().next().unwrap().may_be_local(), local, "{uri}");
        }
    }
}
