//! Limits on the number of connections: in total, and per client address.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    config::{Config, HttpConfig},
    connection::counters::{ConnectionCounters, ConnectionRejection},
    domain::network::TrustedProxies,
};

/// Number of open files reserved for other uses than connections: database files, logs, the async runtime.
const OTHER_FILES: usize = 128;

/// Counts connections, and hands out a permit for each one within the limits.
pub(super) struct Admission {
    max_connections: usize,
    max_per_client: usize,
    trusted_proxies: TrustedProxies,
    counters: Arc<ConnectionCounters>,
    attempts: AtomicU64,
    /// Number of connections by counted address. Trusted proxies are not in it.
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// Permit of one connection, released when dropped.
pub(super) struct ConnectionPermit {
    admission: Arc<Admission>,
    client: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(
        config: &HttpConfig,
        trusted_proxies: TrustedProxies,
        max_connections: usize,
        counters: Arc<ConnectionCounters>,
    ) -> Self {
        Self {
            max_connections,
            max_per_client: config.max_connections_per_address,
            trusted_proxies,
            counters,
            attempts: AtomicU64::new(0),
            clients: Mutex::default(),
        }
    }

    /// Returns a permit for a connection from this address, or the reason why it is rejected.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
    ) -> Result<ConnectionPermit, ConnectionRejection> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let permit = self.acquire(peer);
        if let Err(reason) = permit {
            self.counters.refused(reason);
        }
        permit
    }

    fn acquire(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionPermit, ConnectionRejection> {
        // Created first: dropping it undoes the counts below if the connection is rejected.
        let mut permit = ConnectionPermit {
            admission: self.clone(),
            client: None,
        };
        if self.counters.opened() >= self.max_connections {
            return Err(ConnectionRejection::Service);
        }
        if !self.trusted_proxies.0.contain(peer) {
            let client = counted_address(peer);
            let mut clients = self.clients.lock();
            let count = clients.entry(client).or_default();
            if *count >= self.max_per_client {
                return Err(ConnectionRejection::Client);
            }
            *count += 1;
            permit.client = Some(client);
        }
        Ok(permit)
    }

    /// Returns the number of open connections.
    pub(super) fn open(&self) -> usize {
        self.counters.open()
    }

    /// Returns the number of connections accepted from the socket so far, with or without a permit.
    pub(super) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.admission.counters.closed();
        let Some(client) = self.client else { return };
        let mut clients = self.admission.clients.lock();
        if let Entry::Occupied(mut count) = clients.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Returns the address under which connections of this client are counted. For IPv6 it is the /64 network, since the
/// owner of one address there usually has all 2^64 addresses.
fn counted_address(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

/// Raises the limit of open files as far as the system allows. Returns the number of connections that fit into it, at
/// most `MAX_CONNECTIONS`.
pub(super) fn connection_capacity(config: &Config) -> usize {
    let wanted = config.http.max_connections;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        limit.current = limit.maximum;
        // On failure the limit stays as it is; the calculation below uses its actual value.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    let Some(files) = limit.current else {
        return wanted;
    };
    let reserved = OTHER_FILES + 3 * config.database.pool_size as usize;
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let room = files.saturating_sub(reserved).max(1);
    if room < wanted {
        tracing::warn!(
            room,
            "MAX_CONNECTIONS is {wanted}, but the limit of open files allows fewer connections: raise it (ulimit -n)"
        );
    }
    room.min(wanted)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn admission(max_connections: &str, max_per_client: &str) -> Arc<Admission> {
        let arguments = ["latchkey", "--max-connections-per-address", max_per_client];
        let matches =
            HttpConfig::augment_args(Command::new("latchkey")).get_matches_from(arguments);
        let config = HttpConfig::from_arg_matches(&matches).unwrap();
        let trusted_proxies = "10.0.0.0/8".parse().unwrap();
        let max_connections = max_connections.parse().unwrap();
        let counters = Arc::default();
        Arc::new(Admission::new(
            &config,
            trusted_proxies,
            max_connections,
            counters,
        ))
    }

    fn admit(
        admission: &Arc<Admission>,
        peer: &str,
    ) -> Result<ConnectionPermit, ConnectionRejection> {
        admission.admit(peer.parse().unwrap())
    }

    #[test]
    fn connections_are_limited_per_ipv4_address_and_per_ipv6_64_network() {
        let admission = admission("100", "2");
        let first = admit(&admission, "198.51.100.7");
        let second = admit(&admission, "::ffff:198.51.100.7");
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(
            admit(&admission, "198.51.100.7").err(),
            Some(ConnectionRejection::Client)
        );
        assert!(admit(&admission, "198.51.100.8").is_ok());
        drop(first);
        assert!(admit(&admission, "198.51.100.7").is_ok());
        let same_network = ["2001:db8::1", "2001:db8::ffff:1"].map(|peer| admit(&admission, peer));
        assert!(same_network.iter().all(Result::is_ok));
        assert_eq!(
            admit(&admission, "2001:db8::2").err(),
            Some(ConnectionRejection::Client)
        );
        assert!(admit(&admission, "2001:db8:0:1::2").is_ok());
    }

    #[test]
    fn trusted_proxy_is_limited_by_the_total_only_and_dropped_permits_are_released() {
        let admission = admission("5", "2");
        let permits: Vec<_> = (0..5).map(|_| admit(&admission, "10.0.0.1")).collect();
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(
            admit(&admission, "10.0.0.1").err(),
            Some(ConnectionRejection::Service)
        );
        assert_eq!(
            admit(&admission, "192.0.2.1").err(),
            Some(ConnectionRejection::Service)
        );
        assert_eq!(admission.open(), 5);
        drop(permits);
        assert_eq!(admission.open(), 0);
        assert!(admission.clients.lock().is_empty());
    }
}
