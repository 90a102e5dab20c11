//! A flood of logins leaves the rest of the service answering.

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
    // Slow enough that a queue forms, as it does at the default of 12.
    |config| config.bcrypt_cost = 10;
    past_the_bound_a_login_is_told_to_come_back,
}

fn past_the_bound_a_login_is_told_to_come_back(server: TestServer) {
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
    let turned_away = AtomicBool::new(false);

    // More at once than hash and wait together, all with the right password.
    thread::scope(|scope| {
        for _ in 0..128 + cores + 40 {
            scope.spawn(|| {
                let login = json!({"email": "ada@example.com", "password": PASSWORD});
                while flooding.load(Ordering::Relaxed) {
                    let reply = server.anonymous().post_json("/auth/login", &login);
                    if reply.status != 200 {
                        reply.assert_problem(503, "unavailable");
                        turned_away.store(true, Ordering::Relaxed);
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
    assert!(turned_away.load(Ordering::Relaxed));
    server.anonymous().log_in("ada@example.com", PASSWORD);
}
