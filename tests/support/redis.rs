//! Redis for the tests: the database at `TEST_REDIS_URL`, else a private server.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{postgres::unprivileged_user, skip};

/// An empty database that no other test uses until this value is dropped.
pub struct Redis {
    pub url: String,
    _exclusive: Option<MutexGuard<'static, ()>>,
    _server: Option<Server>,
}

/// Returns an empty database, or skips the test and returns `None` if Redis is not installed.
pub fn empty() -> Option<Redis> {
    let Ok(url) = std::env::var("TEST_REDIS_URL") else {
        let server = Server::start()?;
        return Some(Redis {
            url: server.url.clone(),
            _exclusive: None,
            _server: Some(server),
        });
    };
    static EXCLUSIVE: Mutex<()> = Mutex::new(());
    let exclusive = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
    let named = url.rsplit('/').next().and_then(|n| n.parse::<u32>().ok());
    assert!(
        named.is_some(),
        "TEST_REDIS_URL must name a database that may be emptied, such as redis://localhost/15"
    );
    let emptied = redis::cmd("FLUSHDB").exec(&mut connect(&url));
    emptied.expect("FLUSHDB");
    Some(Redis {
        url,
        _exclusive: Some(exclusive),
        _server: None,
    })
}

fn connect(url: &str) -> redis::Connection {
    redis::Client::open(url)
        .and_then(|client| client.get_connection())
        .expect("a connection to Redis")
}

/// A private server, even if `TEST_REDIS_URL` is set, for tests that kill or pause it. It stores nothing on disk.
pub struct Server {
    pub url: String,
    address: SocketAddr,
    /// Parent of the server: a shell that ends it when its standard input, a pipe of the test process, is closed.
    keeper: Child,
    pid: String,
}

impl Server {
    /// Starts a server, or skips the test and returns `None` if Redis is not installed.
    pub fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output();
        if version.is_err() {
            skip("Redis: its program redis-server is not installed");
            return None;
        }
        // Outside the range of ephemeral ports: a client that keeps connecting to an ephemeral port of the same
        // machine, where no process listens, eventually connects to itself.
        let address = std::iter::repeat_with(|| rand::random_range(10_000..30_000))
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .find(|address| TcpListener::bind(address).is_ok())
            .expect("a free port");
        let (keeper, pid) = spawn(address);
        Some(Self {
            url: format!("redis://{address}"),
            address,
            keeper,
            pid,
        })
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        // `wait` closes the standard input of the shell first, which kills the server.
        let _ = self.keeper.wait();
    }

    /// Starts a killed server again on the same port. Its data is lost.
    pub fn start_again(&mut self) {
        (self.keeper, self.pid) = spawn(self.address);
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a server and waits until it responds.
fn spawn(address: SocketAddr) -> (Child, String) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", SCRIPT, "sh", &address.port().to_string()])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    if let Some((uid, gid)) = unprivileged_user() {
        shell.uid(uid).gid(gid);
    }
    let mut keeper = shell.spawn().expect("a shell");
    let mut pid = String::new();
    let mut stdout = BufReader::new(keeper.stdout.take().expect("its output"));
    stdout.read_line(&mut pid).expect("a process id");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !send_command(address, "PING").is_ok_and(|response| response == "+PONG\r\n") {
        assert!(Instant::now() < deadline, "Redis does not start");
        thread::sleep(Duration::from_millis(10));
    }
    (keeper, pid.trim().to_owned())
}

const SCRIPT: &str = r#"
    redis-server --port "$1" --bind 127.0.0.1 --save "" --appendonly no >/dev/null 2>&1 &
    echo $!
    # The input ends with the process that holds the other end of the pipe.
    cat >/dev/null
    kill -KILL $!
    wait
"#;

/// Sends a command over a plain socket with a timeout of 500 ms: a client library would wait for a server that hangs.
fn send_command(address: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut response = [0; 64];
    let length = stream.read(&mut response)?;
    Ok(String::from_utf8_lossy(&response[..length]).into_owned())
}

#[test]
fn redis_database_is_empty_for_each_test() {
    for _ in 0..2 {
        let Some(redis) = empty() else { return };
        let mut connection = connect(&redis.url);
        let keys: usize = redis::cmd("DBSIZE").query(&mut connection).unwrap();
        assert_eq!(keys, 0);
        redis::cmd("SET")
            .arg("key")
            .arg("value")
            .exec(&mut connection)
            .unwrap();
    }
}

/// Proves that the faults are real ones: otherwise tests that use them would prove nothing.
#[test]
fn paused_redis_does_not_respond_and_killed_redis_loses_its_data() {
    use super::proxy::{Mode, Proxy};
    let Some(mut server) = Server::start() else {
        return;
    };
    let address = server.address;
    let proxy = Proxy::to(&server.url);
    let through_proxy: SocketAddr = proxy.url.trim_start_matches("redis://").parse().unwrap();
    assert_eq!(
        send_command(through_proxy, "SET key value").unwrap(),
        "+OK\r\n"
    );
    for mode in [Mode::Stuck, Mode::Cut] {
        proxy.set(mode);
        let response = send_command(through_proxy, "DBSIZE");
        assert!(response.is_err() || response.is_ok_and(|response| response.is_empty()));
    }
    proxy.set(Mode::Open);
    assert_eq!(send_command(through_proxy, "DBSIZE").unwrap(), ":1\r\n");

    server.signal("STOP");
    assert!(send_command(address, "DBSIZE").is_err());
    server.signal("CONT");
    assert_eq!(send_command(address, "DBSIZE").unwrap(), ":1\r\n");
    server.kill();
    assert!(send_command(address, "DBSIZE").is_err());
    server.start_again();
    assert_eq!(send_command(address, "DBSIZE").unwrap(), ":0\r\n");
}
