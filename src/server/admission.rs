//! How many connections there may be: in all, and from one client address.

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

/// Files that are open besides connections: the database's, logs, what the runtime needs.
const OTHER_FILES: usize = 128;

/// Counts them.
pub(super) struct Admission {
    most: usize,
    most_per_client: usize,
    trusted: TrustedProxies,
    connections: Arc<ConnectionCounters>,
    admitted: AtomicU64,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's permit, given back when it is dropped.
pub(super) struct ConnectionPermit {
    admission: Arc<Admission>,
    client: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(
        config: &HttpConfig,
        trusted: TrustedProxies,
        most: usize,
        connections: Arc<ConnectionCounters>,
    ) -> Self {
        Self {
            most,
            most_per_client: config.max_connections_per_address,
            trusted,
            connections,
            admitted: AtomicU64::new(0),
            clients: Mutex::default(),
        }
    }

    pub(super) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
    ) -> Result<ConnectionPermit, ConnectionRejection> {
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let permit = self.permit(peer);
        if let Err(why) = permit {
            self.connections.refused(why);
        }
        permit
    }

    fn permit(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionPermit, ConnectionRejection> {
        // Gives back on its way out what it has taken.
        let mut permit = ConnectionPermit {
            admission: self.clone(),
            client: None,
        };
        if self.connections.opened() >= self.most {
            return Err(ConnectionRejection::Service);
        }
        if !self.trusted.0.contain(peer) {
            let client = client_of(peer);
            let mut clients = self.clients.lock();
            let count = clients.entry(client).or_default();
            if *count >= self.most_per_client {
                return Err(ConnectionRejection::Client);
            }
            *count += 1;
            permit.client = Some(client);
        }
        Ok(permit)
    }

    /// ConnectionCounters that there are.
    pub(super) fn open(&self) -> usize {
        self.connections.open()
    }

    /// How many have come so far, whether or not they got a permit.
    pub(super) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.admission.connections.closed();
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

/// Who has one IPv6 address has 2^64 of them.
fn client_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

/// Makes the system allow as many open files as it can, and answers how many connections that leaves
/// room for, at most those that are set.
pub(super) fn room_for_connections(config: &Config) -> usize {
    let wanted = config.http.max_connections;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        limit.current = limit.maximum;
        // What cannot be raised stays, and is reckoned with below.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    let Some(files) = limit.current else {
        return wanted;
    };
    let others = OTHER_FILES + 3 * config.database.pool_size as usize;
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let room = files.saturating_sub(others).max(1);
    if room < wanted {
        tracing::warn!(
            room,
            "MAX_CONNECTIONS is {wanted}, which the limit of open files does not allow: raise it (ulimit -n)"
        );
    }
    room.min(wanted)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn admission(most: &str, most_per_client: &str) -> Arc<Admission> {
        let arguments = ["latchkey", "--max-connections-per-address", most_per_client];
        let matches =
            HttpConfig::augment_args(Command::new("latchkey")).get_matches_from(arguments);
        let config = HttpConfig::from_arg_matches(&matches).unwrap();
        let trusted = "10.0.0.0/8".parse().unwrap();
        let most = most.parse().unwrap();
        Arc::new(Admission::new(&config, trusted, most, Arc::default()))
    }

    fn admit(
        admission: &Arc<Admission>,
        peer: &str,
    ) -> Result<ConnectionPermit, ConnectionRejection> {
        admission.admit(peer.parse().unwrap())
    }

    #[test]
    fn one_address_gets_so_many_and_its_ipv6_network_is_one() {
        let admission = admission("100", "2");
        let one = admit(&admission, "198.51.100.7");
        let two = admit(&admission, "::ffff:198.51.100.7");
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(
            admit(&admission, "198.51.100.7").err(),
            Some(ConnectionRejection::Client)
        );
        assert!(admit(&admission, "198.51.100.8").is_ok());
        drop(one);
        assert!(admit(&admission, "198.51.100.7").is_ok());
        let near = ["2001:db8::1", "2001:db8::ffff:1"].map(|peer| admit(&admission, peer));
        assert!(near.iter().all(Result::is_ok));
        assert_eq!(
            admit(&admission, "2001:db8::2").err(),
            Some(ConnectionRejection::Client)
        );
        assert!(admit(&admission, "2001:db8:0:1::2").is_ok());
    }

    #[test]
    fn a_trusted_proxy_gets_as_many_as_there_are_and_nothing_is_left_behind() {
        let admission = admission("5", "2");
        let places: Vec<_> = (0..5).map(|_| admit(&admission, "10.0.0.1")).collect();
        assert!(places.iter().all(Result::is_ok));
        assert_eq!(
            admit(&admission, "10.0.0.1").err(),
            Some(ConnectionRejection::Service)
        );
        assert_eq!(
            admit(&admission, "192.0.2.1").err(),
            Some(ConnectionRejection::Service)
        );
        assert_eq!(admission.open(), 5);
        drop(places);
        assert_eq!(admission.open(), 0);
        assert!(admission.clients.lock().is_empty());
    }
}
