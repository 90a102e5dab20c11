//! Redis for the tests: the database at `TEST_REDIS_URL`, else a server of our own.

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

/// A database that is empty and nobody else's until this is dropped.
pub struct Redis {
    pub url: String,
    _turn: Option<MutexGuard<'static, ()>>,
    _server: Option<Server>,
}

/// `None`, with a word about it, where there is no Redis.
pub fn empty() -> Option<Redis> {
    let Ok(url) = std::env::var("TEST_REDIS_URL") else {
        let server = Server::start()?;
        return Some(Redis {
            url: server.url.clone(),
            _turn: None,
            _server: Some(server),
        });
    };
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let named = url.rsplit('/').next().and_then(|n| n.parse::<u32>().ok());
    assert!(
        named.is_some(),
        "TEST_REDIS_URL has to name the database that may be emptied, as redis://localhost/15 does"
    );
    let emptied = redis::cmd("FLUSHDB").exec(&mut connect(&url));
    emptied.expect("FLUSHDB");
    Some(Redis {
        url,
        _turn: Some(turn),
        _server: None,
    })
}

fn connect(url: &str) -> redis::Connection {
    redis::Client::open(url)
        .and_then(|client| client.get_connection())
        .expect("a connection to Redis")
}

/// A server of our own, whatever `TEST_REDIS_URL` says, since things are done to it. It keeps nothing on
/// disk.
pub struct Server {
    pub url: String,
    address: SocketAddr,
    /// Ends with this process: it is the child of a shell that waits for the end of its input, whose
    /// other end is ours.
    keeper: Child,
    pid: String,
}

impl Server {
    /// `None`, with a word about it, where Redis is not installed.
    pub fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output();
        if version.is_err() {
            skip("Redis: its program redis-server is not there");
            return None;
        }
        // Not a port that the system gives to clients: who asks such a port of this machine again and
        // again while nobody listens there is at last connected with themselves.
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

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        // Closes the shell's input first.
        let _ = self.keeper.wait();
    }

    /// Once it was killed, starts it where it was. It knows nothing any more.
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

/// Starts one and waits until it answers.
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
    while !ask(address, "PING").is_ok_and(|answer| answer == "+PONG\r\n") {
        assert!(Instant::now() < deadline, "Redis does not start");
        thread::sleep(Duration::from_millis(10));
    }
    (keeper, pid.trim().to_owned())
}

const SCRIPT: &str = r#"
    redis-server --port "$1" --bind 127.0.0.1 --save "" --appendonly no >/dev/null 2>&1 &
    echo $!
    # Ends with the process that holds the other end.
    cat >/dev/null
    kill -KILL $!
    wait
"#;

/// By hand, since a client waits for a server that hangs.
fn ask(address: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[test]
fn a_test_finds_nothing_of_the_one_before() {
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

/// A fault that is not one would prove nothing.
#[test]
fn stopped_it_does_not_answer_and_killed_it_forgets() {
    use super::proxy::{Mode, Proxy};
    let Some(mut server) = Server::start() else {
        return;
    };
    let address = server.address;
    let proxy = Proxy::to(&server.url);
    let by_way_of_it: SocketAddr = proxy.url.trim_start_matches("redis://").parse().unwrap();
    assert_eq!(ask(by_way_of_it, "SET key value").unwrap(), "+OK\r\n");
    for mode in [Mode::Stuck, Mode::Cut] {
        proxy.set(mode);
        let answer = ask(by_way_of_it, "DBSIZE");
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_empty()));
    }
    proxy.set(Mode::Open);
    assert_eq!(ask(by_way_of_it, "DBSIZE").unwrap(), ":1\r\n");

    server.signal("STOP");
    assert!(ask(address, "DBSIZE").is_err());
    server.signal("CONT");
    assert_eq!(ask(address, "DBSIZE").unwrap(), ":1\r\n");
    server.kill();
    assert!(ask(address, "DBSIZE").is_err());
    server.start_again();
    assert_eq!(ask(address, "DBSIZE").unwrap(), ":0\r\n");
}
