//! Clock jumps: the lease on the cache does not depend on the wall clock.

use std::time::{Duration, Instant};

use super::{
    fleet::assert_within_a_lease,
    support::{Client, TestServer, path_of, postgres},
};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn revoked_key_is_rejected_by_every_instance_after_a_clock_jump() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let servers = [(); 3].map(|()| {
        TestServer::on(&database.url, |config| {
            config.jwt_ttl_seconds = 24 * 3600;
        })
    });
    let ada = servers[0].user("ada@example.com").header("authorization");
    let at = |server: &TestServer| Client::new(&server.base).with("authorization", &ada);
    for jump in [Some(0), Some(2), None] {
        for changer in &servers {
            let key = at(&servers[0]).create_key();
            let callers = servers.each_ref().map(|server| server.caller(&key));
            for caller in callers.iter().chain(&callers) {
                assert_eq!(caller.get("/protected").status, 200);
            }
            // All instances have cached the key now.
            if let Some(jump) = jump {
                servers[jump].advance(HOUR);
            }
            let started = Instant::now();
            assert_eq!(at(changer).delete(&path_of(&key)).status, 200);
            let took = started.elapsed();
            for caller in &callers {
                let reply = caller.get("/protected");
                reply.assert_problem(401, "invalid_api_key");
            }
            assert_within_a_lease(took);
        }
    }
}
