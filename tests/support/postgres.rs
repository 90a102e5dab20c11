//! PostgreSQL for the tests: the one at `TEST_DATABASE_URL`, else one of our own.

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

/// A database that nobody has used yet. It is gone when this is dropped.
pub struct Database {
    pub url: String,
    name: String,
}

/// `None`, with a word about it, where there is no PostgreSQL.
pub fn fresh_database() -> Option<Database> {
    fresh_database_with("")
}

/// The same with options of `CREATE DATABASE`.
pub fn fresh_database_with(options: &str) -> Option<Database> {
    let name = format!("latchkey_test_{}", uuid::Uuid::new_v4().simple());
    execute(server()?, &format!("CREATE DATABASE {name} {options}"));
    Some(Database {
        url: with_database(server()?, &name),
        name,
    })
}

impl Database {
    /// Makes a role, of the database's own name.
    pub fn role_that_may_only_use_the_tables(&self) -> &str {
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

/// The same URL with another database's name in it.
fn with_database(url: &str, name: &str) -> String {
    let (url, parameters) = url.split_once('?').unwrap_or((url, ""));
    let start = url.find("://").map_or(0, |at| at + 3);
    let host = url[start..].split('/').next().unwrap_or_default();
    let separator = if parameters.is_empty() { "" } else { "?" };
    format!("{}{host}/{name}{separator}{parameters}", &url[..start])
}

/// The same URL by way of another address, and the address that it had.
pub fn by_way_of(url: &str, address: SocketAddr) -> (String, String) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    let start = url[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    let host = &url[start..end];
    let had = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:5432")
    };
    (format!("{}{address}{}", &url[..start], &url[end..]), had)
}

/// The URL of a server where databases can be made.
fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    SERVER
        .get_or_init(|| match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => Some(url),
            Err(_) => programs().map(|programs| Server::start(&programs, "").kept().url.clone()),
        })
        .as_deref()
}

/// A server of our own, whatever `TEST_DATABASE_URL` says, since things are done to it.
pub fn own_server() -> Option<Server> {
    Some(Server::start(&programs()?, ""))
}

/// A server that speaks TLS, always one of our own: the URL of a database there, and the file of the
/// certificate that vouches for `localhost`.
pub fn with_tls() -> Option<(String, PathBuf)> {
    let server = Server::start(&programs()?, TLS).kept();
    Some((server.url.clone(), server.folder.join("server.crt")))
}

/// Where `initdb` and `postgres` are. `None`, with a word about it, if they are not there.
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
        skip("PostgreSQL: its programs initdb and postgres are not there");
    }
    found
}

/// A server of our own. It ends when this is dropped, or with this process: it is the child of a shell
/// that does as it is told on its input, whose other end is ours, until that ends.
pub struct Server {
    /// Of a database there.
    pub url: String,
    folder: PathBuf,
    keeper: Child,
    done: BufReader<ChildStdout>,
}

/// How a server ends.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// ConnectionCounters are closed, and everything is written.
    InOrder,
    /// As in a crash.
    AtOnce,
}

impl Server {
    fn start(programs: &Path, options: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let user = unprivileged_user();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).expect("to give the folder away");
        }
        // Free now; should somebody else take it before PostgreSQL does, another one.
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
            if server.comes_up() {
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

    /// Waits until it takes connections, or has ended.
    fn comes_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline && self.keeper.try_wait().expect("its state").is_none() {
            if PgConnection::establish(&self.url).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Lets it live as long as this process.
    fn kept(self) -> &'static Self {
        Box::leak(Box::new(self))
    }

    /// Ends it, and answers when it has ended.
    pub fn stop(&mut self, end: End) {
        self.tell(match end {
            End::InOrder => "fast",
            End::AtOnce => "immediate",
        });
    }

    /// Once it was stopped, starts it where it was, with what it had.
    pub fn start_again(&mut self) {
        self.tell("start");
        assert!(self.comes_up(), "PostgreSQL does not start again");
    }

    fn tell(&mut self, what: &str) {
        let shell = self.keeper.stdin.as_mut().expect("its input");
        writeln!(shell, "{what}").expect("a shell that listens");
        let mut done = String::new();
        self.done.read_line(&mut done).expect("its answer");
        assert_eq!(done, "done\n", "{what}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closes the shell's input first.
        let _ = self.keeper.wait();
    }
}

/// Relative to the data folder.
const TLS: &str = "-c ssl=on -c ssl_cert_file=../server.crt -c ssl_key_file=../server.key";

/// Not safe against a crash of the machine, which a test's database need not be; quick.
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
    # Ends with the process that holds the other end.
    while read -r what; do
        case $what in
            start) start "$@" && echo done >&3 ;;
            *) "$1/pg_ctl" -D "$2/data" -w -m "$what" stop && echo done >&3 ;;
        esac || echo failed >&3
    done
    "$1/pg_ctl" -D "$2/data" -m immediate stop
    rm -rf "$2"
"#;

/// PostgreSQL refuses to run as root, so root runs a server as somebody else.
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
