//! Quotas while the database is unreachable: the instance spends its reserved block, and no unit twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database_unreachable::await_recovery,
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
fn key_spends_its_reserved_block_without_postgres_and_then_gets_503() {
    const LIMIT: u64 = 100_000;
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = TIMEOUT;
        // Cached keys stay valid for the whole test.
        config.cache.lease = Duration::from_secs(60);
    });
    let (verifier, ada) = verifier(&server);
    let [used, unspent] = [(); 2].map(|()| with_quota(&ada, LIMIT, "total"));
    let unlimited = ada.create_key();
    use_key(&server, &used, 20);
    use_key(&server, &unlimited, 1);
    server
        .caller(&unspent)
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
        panic!("the key never gets 503");
    };
    let uses = [20 + until_unavailable(&used), until_unavailable(&unspent)];
    // A key without a quota needs no database.
    use_key(&server, &unlimited, 1);

    proxy.set(Mode::Open);
    for (key, uses) in [&used, &unspent].into_iter().zip(uses) {
        await_recovery(&server.caller(key));
        let left = remaining(&verifier, key);
        assert!(left < LIMIT - uses, "{left} after {uses}");
        // Only a block that was requested when the connection broke may be lost.
        assert!(left > LIMIT - uses - LIMIT / 10, "{left} after {uses}");
    }
}

#[test]
fn quota_is_intact_after_another_program_locked_the_embedded_database() {
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
    // The tokens were refunded too. Otherwise the rate limit would reject the fifth request.
    assert_eq!(spend(&server, &key).0, 5);
}
