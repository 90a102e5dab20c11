//! PostgreSQL for the tests: the server at `TEST_DATABASE_URL`, else a private one.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use diesel::{Connection as _, PgConnection, RunQueryDsl as _};

use super::skip;

/// An empty database. It is dropped with this value.
pub struct Database {
    pub url: String,
    name: String,
}

/// Creates an empty database, or skips the test and returns `None` if PostgreSQL is not installed.
pub fn fresh_database() -> Option<Database> {
    fresh_database_with("")
}

/// Creates an empty database as [`fresh_database`] does, with options of `CREATE DATABASE`.
pub fn fresh_database_with(options: &str) -> Option<Database> {
    let name = format!("latchkey_test_{}", uuid::Uuid::new_v4().simple());
    execute(server()?, &format!("CREATE DATABASE {name} {options}"));
    Some(Database {
        url: with_database(server()?, &name),
        name,
    })
}

impl Database {
    /// Creates a role with the name of the database that may read and write the tables but not change them.
    pub fn create_role_without_ddl_permissions(&self) -> &str {
        let name = &self.name;
        execute(&self.url, &format!("CREATE ROLE {name}"));
        let rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public";
        execute(&self.url, &format!("GRANT {rights} TO {name}"));
        name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(server) = server() {
            execute(server, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
            execute(server, &format!("DROP ROLE IF EXISTS {}", self.name));
        }
    }
}

fn execute(url: &str, statement: &str) {
    let mut admin = PgConnection::establish(url).expect("a connection to PostgreSQL");
    diesel::sql_query(statement)
        .execute(&mut admin)
        .expect(statement);
}

/// Returns the URL with another database name.
fn with_database(url: &str, name: &str) -> String {
    let (url, parameters) = url.split_once('?').unwrap_or((url, ""));
    let start = url.find("://").map_or(0, |at| at + 3);
    let host = url[start..].split('/').next().unwrap_or_default();
    let separator = if parameters.is_empty() { "" } else { "?" };
    format!("{}{host}/{name}{separator}{parameters}", &url[..start])
}

/// Returns the URL with another address, and the original address.
pub fn via_address(url: &str, address: SocketAddr) -> (String, String) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    let start = url[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    let host = &url[start..end];
    let original = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:5432")
    };
    (
        format!("{}{address}{}", &url[..start], &url[end..]),
        original,
    )
}

/// Returns the URL of a server where databases can be created.
fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    SERVER
        .get_or_init(|| match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => Some(url),
            Err(_) => programs().map(|programs| Server::start(&programs, "").kept().url.clone()),
        })
        .as_deref()
}

/// Starts a private server even if `TEST_DATABASE_URL` is set, for tests that stop or reconfigure it.
pub fn private_server() -> Option<Server> {
    Some(Server::start(&programs()?, ""))
}

/// Starts a private server with TLS. Returns the URL of a database there, and the file of the certificate, which is
/// valid for `localhost`.
pub fn with_tls() -> Option<(String, PathBuf)> {
    let server = Server::start(&programs()?, TLS).kept();
    Some((server.url.clone(), server.folder.join("server.crt")))
}

/// Returns the folder of `initdb` and `postgres`, or skips the test and returns `None` if they are not installed.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = debian.chain(std::env::split_paths(&path));
    let found = folders.find(|f| f.join("initdb").exists() && f.join("postgres").exists());
    if found.is_none() {
        skip("PostgreSQL: its programs initdb and postgres are not installed");
    }
    found
}

/// A private server. It ends when this value is dropped, or with the test process. It is the child of a shell that
/// reads commands from its standard input, a pipe of the test process, until that is closed.
pub struct Server {
    /// URL of a database on the server.
    pub url: String,
    folder: PathBuf,
    keeper: Child,
    done: BufReader<ChildStdout>,
}

/// Ways to stop a server.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// Closes connections and writes everything (`pg_ctl stop -m fast`).
    Shutdown,
    /// Aborts as in a crash (`pg_ctl stop -m immediate`).
    Crash,
}

impl Server {
    fn start(programs: &Path, options: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let user = unprivileged_user();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).expect("to give the folder away");
        }
        // The port is free now. If another process takes it before PostgreSQL does, try another port.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port")
                .port();
            let mut keeper = Self::spawn(programs, &folder, port, options, user);
            let mut server = Self {
                url: format!("postgres://postgres@localhost:{port}/postgres"),
                folder: folder.clone(),
                done: BufReader::new(keeper.stdout.take().expect("its output")),
                keeper,
            };
            if server.await_connections() {
                return server;
            }
        }
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start: {log}");
    }

    fn spawn(
        programs: &Path,
        folder: &Path,
        port: u16,
        options: &str,
        user: Option<(u32, u32)>,
    ) -> Child {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT, "sh"])
            .args([programs, folder])
            .args([&port.to_string(), options])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        if let Some((uid, gid)) = user {
            shell.uid(uid).gid(gid);
        }
        shell.spawn().expect("a shell")
    }

    /// Waits until the server accepts connections. Returns false if it has ended or does not accept any in time.
    fn await_connections(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline && self.keeper.try_wait().expect("its state").is_none() {
            if PgConnection::establish(&self.url).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Keeps the server until the test process ends.
    fn kept(self) -> &'static Self {
        Box::leak(Box::new(self))
    }

    /// Stops the server, and returns when it has ended.
    pub fn stop(&mut self, end: End) {
        self.command(match end {
            End::Shutdown => "fast",
            End::Crash => "immediate",
        });
    }

    /// Starts a stopped server again on the same port with the same data.
    pub fn start_again(&mut self) {
        self.command("start");
        assert!(self.await_connections(), "PostgreSQL does not start again");
    }

    fn command(&mut self, command: &str) {
        let shell = self.keeper.stdin.as_mut().expect("its input");
        writeln!(shell, "{command}").expect("a shell that reads");
        let mut done = String::new();
        self.done.read_line(&mut done).expect("its response");
        assert_eq!(done, "done\n", "{command}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `wait` closes the standard input of the shell first, which ends the server.
        let _ = self.keeper.wait();
    }
}

/// Options that enable TLS. Paths are relative to the data folder.
const TLS: &str = "-c ssl=on -c ssl_cert_file=../server.crt -c ssl_key_file=../server.key";

/// Shell script that runs a server. It disables fsync: the data of a test need not survive a crash of the machine.
const SCRIPT: &str = r#"
    exec 3>&1 >"$2/log" 2>&1
    rm -rf "$2/data"
    "$1/initdb" -D "$2/data" -A trust -U postgres -E UTF8 --no-locale -N || exit 1
    case "$4" in *ssl=on*)
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
            -addext subjectAltName=DNS:localhost \
            -keyout "$2/server.key" -out "$2/server.crt" || exit 1
        chmod 600 "$2/server.key"
    esac
    start() {
        "$1/pg_ctl" -D "$2/data" -w \
            -o "-h localhost -p $3 -k $2 $4 -c fsync=off -c max_connections=400" start 3>&-
    }
    start "$@" || exit 1
    # The input ends with the process that holds the other end of the pipe.
    while read -r command; do
        case $command in
            start) start "$@" && echo done >&3 ;;
            *) "$1/pg_ctl" -D "$2/data" -w -m "$command" stop && echo done >&3 ;;
        esac || echo failed >&3
    done
    "$1/pg_ctl" -D "$2/data" -m immediate stop
    rm -rf "$2"
"#;

/// Returns the user and group to run a server as, if the tests run as root: PostgreSQL does not run as root.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
}
