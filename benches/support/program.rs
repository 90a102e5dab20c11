//! The built program with its defaults, in a process of its own.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{ask, get};

/// The program, listening. It ends when this is dropped.
pub(crate) struct Program {
    pub(crate) address: String,
    /// From its start until it said that it is ready.
    pub(crate) took: Duration,
    child: Child,
}

impl Program {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(database_url: &str) -> Self {
        Self::start_with(database_url, &[])
    }

    /// The same with settings that are not the defaults.
    pub(crate) fn start_with(database_url: &str, settings: &[(&str, &str)]) -> Self {
        let address = free_address();
        let port = address.rsplit(':').next().unwrap();
        let started = Instant::now();
        let mut command = command(database_url);
        // It logs as it does by default, and nobody has to read that.
        command
            .env("PORT", port)
            .envs(settings.iter().copied())
            .stdout(Stdio::null());
        let mut program = Self {
            took: Duration::ZERO,
            child: command.spawn().expect("the program"),
            address,
        };
        while !program.is_ready() {
            assert!(program.child.try_wait().unwrap().is_none(), "it ended");
            thread::sleep(Duration::from_millis(1));
        }
        program.took = started.elapsed();
        program
    }

    fn is_ready(&self) -> bool {
        TcpStream::connect(&self.address).is_ok()
            && ask(&self.address, &get("/health/ready", "")).starts_with("HTTP/1.1 200")
    }

    /// Bytes of memory that it has now.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        1024 * kilobytes.unwrap().parse::<usize>().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// Lets it finish, and waits for that.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an account an admin, whether or not a server runs.
pub(crate) fn make_admin(database_url: &str, email: &str) {
    let mut command = command(database_url);
    command
        .args(["admin", "grant", email])
        .stdout(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// The program with none of the caller's settings.
fn command(database_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    command
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("JWT_SECRET", "a-secret-for-benchmarks-and-nothing-else");
    command
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
