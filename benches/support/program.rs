//! Built program with its default settings, in a process of its own.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{get, send};

/// Running program. It is killed on drop.
pub(crate) struct Program {
    pub(crate) address: String,
    /// Time from its start until it was ready.
    pub(crate) start_time: Duration,
    child: Child,
}

impl Program {
    /// Starts the program and waits until it is ready.
    pub(crate) fn start(database_url: &str) -> Self {
        Self::start_with(database_url, &[])
    }

    /// Starts the program with these settings in its environment, and waits until it is ready.
    pub(crate) fn start_with(database_url: &str, settings: &[(&str, &str)]) -> Self {
        let address = free_address();
        let port = address.rsplit(':').next().unwrap();
        let started = Instant::now();
        let mut command = command(database_url);
        // The program logs as by default, and the output is discarded.
        command
            .env("PORT", port)
            .envs(settings.iter().copied())
            .stdout(Stdio::null());
        let mut program = Self {
            start_time: Duration::ZERO,
            child: command.spawn().expect("the program"),
            address,
        };
        while !program.is_ready() {
            assert!(
                program.child.try_wait().unwrap().is_none(),
                "the program has exited"
            );
            thread::sleep(Duration::from_millis(1));
        }
        program.start_time = started.elapsed();
        program
    }

    fn is_ready(&self) -> bool {
        TcpStream::connect(&self.address).is_ok()
            && send(&self.address, &get("/health/ready", "")).starts_with("HTTP/1.1 200")
    }

    /// Returns the resident memory in bytes.
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

    /// Shuts the program down and waits until it has exited successfully.
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

/// Makes an account an admin with the command line, whether or not a server is running.
pub(crate) fn make_admin(database_url: &str, email: &str) {
    let mut command = command(database_url);
    command
        .args(["admin", "grant", email])
        .stdout(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// Returns a command that runs the program with none of the caller's environment.
fn command(database_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    command
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("JWT_SECRET", "a-secret-for-benchmarks-and-nothing-else");
    command
}

/// Returns an address with a free port.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
