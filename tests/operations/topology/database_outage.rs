//! Database outage behind nginx: requests that need no database succeed.

use std::{thread, time::Duration};

use super::Topology;
use crate::support::{path_of, proxy::Mode};

#[test]
fn cached_key_is_accepted_beside_requests_that_fail_without_the_database() {
    let settings = [
        ("CACHE_LEASE_SECONDS", "60"),
        ("DATABASE_TIMEOUT_SECONDS", "1"),
    ];
    let Some(topology) = Topology::start_with(&settings) else {
        return;
    };
    let ada = topology.nginx.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let callers = topology.callers(&key);
    for caller in &callers {
        for _ in 0..4 {
            assert_eq!(caller.get("/protected").status, 200);
        }
    }
    topology.database_proxy.set(Mode::Cut);
    thread::scope(|threads| {
        let others: Vec<_> = (0..10)
            .map(|_| {
                threads.spawn(|| {
                    for _ in 0..3 {
                        ada.get(&path_of(&key)).assert_problem(503, "unavailable");
                    }
                })
            })
            .collect();
        while others.iter().any(|other| !other.is_finished()) {
            let reply = callers[0].get("/protected");
            assert_eq!(reply.status, 200, "{reply:?}");
            thread::sleep(Duration::from_millis(5));
        }
    });
}
