//! Connections to the database that stay open and pass nothing, as behind a load balancer that failed over,
//! are replaced: requests are answered 503 for a few seconds at most, and then again from the database.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    thread,
    time::Duration,
};

use serde_json::json;

use super::{
    fleet::{Fleet, await_that, start},
    support::{
        PASSWORD, path_of, postgres,
        program::{self, QUICK},
        proxy::{Mode, Proxy},
        server::query,
    },
};

/// The time within which the service must be well again. Nothing but its own deadlines ends the fault.
const WELL_WITHIN: Duration = Duration::from_secs(15);

const SECRET: (&str, &str) = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");

#[test]
fn stranded_connections_are_replaced_by_every_part_of_the_service() {
    let Some(fleet) = Fleet::start_with([&[], &[("CACHE_LEASE_SECONDS", "0")], &[]]) else {
        return;
    };
    for number in [0, 1] {
        let (instance, ada) = (&fleet.instances[number], fleet.at(number, &fleet.ada));
        // Many at once, so that the pool has several connections.
        let callers: Vec<_> = (0..12).map(|_| fleet.at(number, &fleet.ada)).collect();
        thread::scope(|scope| {
            for caller in &callers {
                scope.spawn(|| assert_eq!(caller.get("/api-keys").status, 200));
            }
        });
        instance.proxy.strand();
        let login = json!({"email": "ada@example.com", "password": PASSWORD});
        await_that("all is well again", WELL_WITHIN, || {
            let statuses = [
                ada.get("/api-keys").status,
                ada.post("/api-keys").status,
                ada.post_json("/auth/login", &login).status,
                ada.get("/health/ready").status,
            ];
            eprintln!("{statuses:?}");
            assert!(
                statuses
                    .iter()
                    .all(|status| [200, 201, 503].contains(status))
            );
            statuses == [200, 201, 200, 200]
        });
        // The listener too: a change elsewhere is heard of, and does not wait for a lease.
        let (key, _) = fleet.known_key();
        fleet.revoke(2, &key);
        fleet.assert_refused_everywhere(&key);
    }
    let revoked_after_the_fault = fleet.known_key().0;
    fleet.revoke(0, &revoked_after_the_fault);
    fleet.assert_refused_everywhere(&revoked_after_the_fault);
}

#[test]
fn read_on_a_connection_that_the_server_closed_is_answered_from_a_new_one() {
    let Some(fleet) = Fleet::start_with([&[("DATABASE_POOL_SIZE", "1")], &[], &[]]) else {
        return;
    };
    let ada = fleet.at(0, &fleet.ada);
    for _ in 0..20 {
        // Just used, so that it is not checked before it is used again.
        assert_eq!(ada.get("/api-keys").status, 200);
        let own = "SELECT pg_terminate_backend(pid)::text AS text FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        query(fleet.database_url(), own);
        let reply = ada.get("/api-keys");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[test]
fn connections_over_a_unix_socket_that_hang_are_replaced() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(&database.url);
    let url = over_a_unix_socket(folder.path(), &proxy.url);
    let own = [SECRET, ("DATABASE_URL", &url), ("DATABASE_POOL_SIZE", "2")];
    let program = start(folder.path(), &own);
    let ada = program.client().sign_up("ada@example.com");
    assert_eq!(ada.get("/api-keys").status, 200);
    proxy.strand();
    await_that("all is well again", WELL_WITHIN, || {
        ada.get("/api-keys").status == 200 && ada.post("/api-keys").status == 201
    });
}

#[test]
fn connections_that_hang_are_replaced_also_where_the_url_turns_keepalives_off() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(&database.url);
    let separator = if proxy.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}keepalives=0", proxy.url);
    let own = [SECRET, ("DATABASE_URL", &url), ("DATABASE_POOL_SIZE", "2")];
    let program = start(folder.path(), &own);
    let ada = program.client().sign_up("ada@example.com");
    assert_eq!(ada.get("/api-keys").status, 200);
    proxy.strand();
    await_that("all is well again", WELL_WITHIN, || {
        ada.get("/api-keys").status == 200 && ada.post("/api-keys").status == 201
    });
}

/// A Unix socket in this folder that leads where a URL does. Returns the URL by way of it.
fn over_a_unix_socket(folder: &Path, url: &str) -> String {
    let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
    let target = host_of(url).to_owned();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&target).unwrap();
            let (mut to_server, mut to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            let (mut from_client, mut from_server) = (client, server);
            thread::spawn(move || {
                let _ = io::copy(&mut from_client, &mut to_server);
                to_server.shutdown(Shutdown::Both)
            });
            thread::spawn(move || {
                let _ = io::copy(&mut from_server, &mut to_client);
                to_client.shutdown(Shutdown::Both)
            });
        }
    });
    let by_path = url.replace(host_of(url), "");
    let separator = if by_path.contains('?') { "&" } else { "?" };
    format!("{by_path}{separator}host={}", folder.display())
}

/// The host and the port that a URL names.
fn host_of(url: &str) -> &str {
    let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    authority.rsplit('@').next().unwrap()
}

#[test]
fn start_and_commands_end_when_the_database_takes_connections_and_says_nothing() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let settings = [SECRET, ("DATABASE_URL", proxy.url.as_str())];
    let quick = [&QUICK[..], &settings].concat();
    proxy.set(Mode::Stuck);
    for command in [
        &["migrate"][..],
        &["serve"],
        &["admin", "grant", "a@example.com"],
    ] {
        let output = program::run(command, &quick);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        let said = said.concat();
        assert!(said.contains("still waiting for the database"), "{said}");
        assert!(said.contains("cannot connect to PostgreSQL"), "{said}");
    }
}

#[test]
fn dead_first_host_costs_its_time_limit_once() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let dead = Proxy::to(&database.url);
    dead.set(Mode::Stuck);
    let good = host_of(&database.url);
    let both = format!("{},{good}", host_of(&dead.url));
    let url = database.url.replace(good, &both);
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path(), &[SECRET, ("DATABASE_URL", &url)]);
    let tried = dead.connections();
    assert!(tried > 0);
    // Whatever connects after the first success begins with the host that took it.
    let ada = program.client().sign_up("ada@example.com");
    assert_eq!(ada.get("/api-keys").status, 200);
    assert_eq!(dead.connections(), tried);
    assert_eq!(tried, 1);
}

#[test]
fn lost_listener_is_replaced_once_while_changes_go_on() {
    let Some(fleet) = Fleet::start() else {
        return;
    };
    let listeners = "SELECT pid::text AS text FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let mut before = Vec::new();
    await_that("three listeners", Duration::from_secs(20), || {
        before = query(fleet.database_url(), listeners);
        before.len() == 3
    });
    // Longer than a renewal.
    for instance in &fleet.instances {
        instance.proxy.delay_connections(Duration::from_millis(800));
    }
    let ada = fleet.at(0, &fleet.ada);
    let key = ada.create_key();
    let path = path_of(&key);
    let end = listeners.replace("pid::text", "pg_terminate_backend(pid)::text");
    query(fleet.database_url(), &end);
    let change = |number: usize| {
        let name = json!({"name": format!("name {number}")});
        assert_eq!(ada.patch_json(&path, &name).status, 200);
    };
    let mut changes = 0;
    await_that("three listeners again", Duration::from_secs(20), || {
        changes += 1;
        change(changes);
        let now = query(fleet.database_url(), listeners);
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    });
    let after = query(fleet.database_url(), listeners);
    // Through some renewals.
    for _ in 0..40 {
        changes += 1;
        change(changes);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(query(fleet.database_url(), listeners), after);
}
