//! PgBouncer between the service and PostgreSQL: in transaction mode the start fails, in session mode the service
//! works.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::support::{
    Program, postgres,
    program::{self, QUICK, assert_fails_with_one_line, run_in},
    skip,
};

const SECRET: (&str, &str) = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");

/// A running PgBouncer. It ends when this value is dropped.
struct Pooler {
    url: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// Starts PgBouncer in front of the database at this URL. Returns `None` if it is not installed.
    fn start(database_url: &str, mode: &str) -> Option<Self> {
        let found = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
        let Some(found) = found.into_iter().find(|path| Path::new(path).exists()) else {
            skip("PgBouncer: the program pgbouncer is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (url, target) = postgres::via_address(database_url, address);
        let (host, port) = target.rsplit_once(':').unwrap();
        let settings = folder.path().join("pgbouncer.ini");
        let users = folder.path().join("users.txt");
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        fs::write(
            &settings,
            format!(
                "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
                 pool_mode = {mode}\ndefault_pool_size = 15\n",
                address.port(),
                users.display()
            ),
        )
        .unwrap();
        let mut command = Command::new(found);
        command
            .args(["-q", settings.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // PgBouncer does not run as root.
        if let Some((uid, gid)) = postgres::unprivileged_user() {
            for path in [folder.path(), &settings, &users] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().unwrap();
        let pooler = Self {
            url,
            child,
            _folder: folder,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "PgBouncer does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some(pooler)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pooler_in_transaction_or_statement_mode_stops_the_start_with_its_name() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    for mode in ["transaction", "statement"] {
        let Some(pooler) = Pooler::start(&database.url, mode) else {
            return;
        };
        let settings = [&QUICK[..], &[SECRET, ("DATABASE_URL", &pooler.url)]].concat();
        for command in [
            &["serve"][..],
            &["migrate"],
            &["admin", "grant", "a@example.com"],
        ] {
            let output = program::run(command, &settings);
            assert_fails_with_one_line(
                &output,
                2,
                &["DATABASE_URL", "transaction mode", "session mode"],
            );
        }
    }
    // No lock is left behind.
    let direct = [("DATABASE_URL", database.url.as_str())];
    let output = program::run(&["migrate"], &direct);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn pooler_in_session_mode_is_supported() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let Some(pooler) = Pooler::start(&database.url, "session") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = [&QUICK[..], &[SECRET, ("DATABASE_URL", &pooler.url)]].concat();
    let program = Program::start(folder.path(), &settings);
    let ada = program.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let caller = program.client().with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);
    assert_eq!(ada.delete(&super::support::path_of(&key)).status, 200);
    assert_eq!(caller.get("/protected").status, 401);
    let again = run_in(folder.path(), &["migrate"], &settings);
    assert!(again.status.success(), "{again:?}");
}
