//! Password hashing: a flood of logins does not block other requests.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::json;

use crate::{
    on_both_databases,
    support::{PASSWORD, TestServer},
};

on_both_databases! {
    // Slow enough for a wait queue to form, as with the default cost of 12.
    |config| config.bcrypt_cost = 10;
    logins_beyond_the_hashing_queue_get_503_while_other_requests_succeed,
}

fn logins_beyond_the_hashing_queue_get_503_while_other_requests_succeed(server: TestServer) {
    server.user("ada@example.com");
    let key = server
        .anonymous()
        .log_in("ada@example.com", PASSWORD)
        .create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    let cores = thread::available_parallelism().unwrap().get();
    let flooding = AtomicBool::new(true);
    let rejected = AtomicBool::new(false);

    // More concurrent logins than the permits and the wait queue hold together, all with the right password.
    thread::scope(|scope| {
        for _ in 0..128 + cores + 40 {
            scope.spawn(|| {
                let login = json!({"email": "ada@example.com", "password": PASSWORD});
                while flooding.load(Ordering::Relaxed) {
                    let reply = server.anonymous().post_json("/auth/login", &login);
                    if reply.status != 200 {
                        reply.assert_problem(503, "unavailable");
                        rejected.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..200 {
            assert_eq!(caller.get("/protected").status, 200);
            assert_eq!(caller.get("/health/live").status, 200);
        }
        flooding.store(false, Ordering::Relaxed);
    });
    assert!(rejected.load(Ordering::Relaxed));
    server.anonymous().log_in("ada@example.com", PASSWORD);
}
