//! PgBouncer between the service and PostgreSQL: in transaction mode it is named at the start, in session
//! mode all is well.

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
    program::{self, QUICK, assert_refused, run_in},
    skip,
};

const SECRET: (&str, &str) = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");

/// A PgBouncer, which ends when this is dropped.
struct Pooler {
    url: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// In front of the database at this URL, with a few sessions to it.
    fn start(database_url: &str, mode: &str) -> Option<Self> {
        let found = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
        let Some(found) = found.into_iter().find(|path| Path::new(path).exists()) else {
            skip("PgBouncer: pgbouncer is not there");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (url, target) = postgres::by_way_of(database_url, address);
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
        // It refuses to run as root.
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
fn pooler_that_shares_sessions_is_named_at_every_start() {
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
            assert_refused(
                &output,
                2,
                &["DATABASE_URL", "transaction mode", "session mode"],
            );
        }
    }
    // Nothing is left locked.
    let direct = [("DATABASE_URL", database.url.as_str())];
    let output = program::run(&["migrate"], &direct);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn pooler_in_session_mode_is_as_good_as_none() {
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
