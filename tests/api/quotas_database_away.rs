//! While the database is out of reach, of a quota is spent what is in hand, and nothing twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database_away::await_recovery,
    quotas::{remaining, spend, with_quota},
    rate_limits::use_key,
    support::{
        TestServer, postgres,
        proxy::{Mode, Proxy},
    },
    verify::verifier,
};

const TIMEOUT: Duration = Duration::from_secs(2);

#[test]
fn without_postgres_what_is_in_hand_is_spent_and_then_it_is_503() {
    const LIMIT: u64 = 100_000;
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = TIMEOUT;
        // What is remembered of keys lasts as long as the test.
        config.cache.lease = Duration::from_secs(60);
    });
    let (verifier, ada) = verifier(&server);
    let [used, looked_at] = [(); 2].map(|()| with_quota(&ada, LIMIT, "total"));
    let without = ada.create_key();
    use_key(&server, &used, 20);
    use_key(&server, &without, 1);
    server
        .caller(&looked_at)
        .get("/forward-auth?scope=x")
        .assert_problem(403, "insufficient_scope");

    proxy.set(Mode::Cut);
    let until_unavailable = |key: &Value| {
        let caller = server.caller(key);
        for uses in 0..LIMIT / 10 {
            let reply = caller.get("/protected");
            if reply.status != 200 {
                reply.assert_problem(503, "unavailable");
                return uses;
            }
        }
        panic!("let in without end");
    };
    let uses = [20 + until_unavailable(&used), until_unavailable(&looked_at)];
    // A key without a quota needs no database.
    use_key(&server, &without, 1);

    proxy.set(Mode::Open);
    for (key, uses) in [&used, &looked_at].into_iter().zip(uses) {
        await_recovery(&server.caller(key));
        let left = remaining(&verifier, key);
        assert!(left < LIMIT - uses, "{left} after {uses}");
        // What was asked for when the connection broke may be lost, not more.
        assert!(left > LIMIT - uses - LIMIT / 10, "{left} after {uses}");
    }
}

#[test]
fn what_a_locked_embedded_database_did_not_give_is_there_afterwards() {
    use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
    let server = TestServer::on_sqlite(|config| config.database.timeout = TIMEOUT);
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({
        "quota": {"limit": 5, "period": "total"},
        "rate_limit": {"limit": 7, "window_seconds": 86_400},
    }));
    let caller = server.caller(&key);
    let file = server.database_url.trim_start_matches("sqlite://");

    let mut other = SqliteConnection::establish(file).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    for _ in 0..3 {
        caller.get("/protected").assert_problem(503, "unavailable");
    }
    other.batch_execute("ROLLBACK").unwrap();
    // Nor has the rate limit lost any: with what was refused it would refuse the fifth.
    assert_eq!(spend(&server, &key).0, 5);
}
