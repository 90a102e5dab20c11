//! The built program, run as a person would.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::Client;

/// `latchkey serve`, listening.
pub struct Program {
    pub base: String,
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Program {
    /// The program with none of the caller's settings.
    pub fn command(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
        command
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(settings.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Starts it in `folder` and waits until it says where it listens.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::listening(&mut Self::command(folder, &[], settings))
    }

    /// The same of any program that says it in the same words.
    pub fn listening(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let output = Arc::new(Mutex::new(String::new()));
        let (sender, receiver) = mpsc::channel();
        let kept = output.clone();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, base)) = line.split_once("listening on ") {
                    let base = base.split('"').next().unwrap_or(base).to_owned();
                    let _ = sender.send(base);
                }
                let mut kept = kept.lock().expect("the output");
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let base = receiver.recv_timeout(Duration::from_secs(60));
        let base = base.unwrap_or_else(|_| panic!("it does not listen: {:?}", output.lock()));
        Self {
            base,
            child,
            output,
        }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.base)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// Waits until it has printed this.
    pub fn await_line(&self, part: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.said(part) == 0 {
            assert!(Instant::now() < deadline, "it does not say {part}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it has printed this, and answers what stands behind it on that line.
    pub fn said_after(&self, part: &str) -> String {
        self.await_line(part);
        let output = self.output.lock().expect("the output");
        let after = output.split(part).nth(1).expect("said");
        after.lines().next().unwrap_or_default().to_owned()
    }

    /// How many times it has printed this.
    pub fn said(&self, part: &str) -> usize {
        let output = self.output.lock().expect("the output");
        output.matches(part).count()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("its end")
    }

    /// Ends it with SIGTERM and answers everything that it printed.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait().expect("its state").is_none() {
            assert!(Instant::now() < deadline, "it does not stop");
            thread::sleep(Duration::from_millis(5));
        }
        self.output.lock().expect("the output").clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port, and hashes that a test does not wait for.
pub const QUICK: [(&str, &str); 2] = [("PORT", "0"), ("BCRYPT_COST", "4")];

/// Runs it to its end, in a folder of its own.
pub fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), arguments, settings)
}

/// Runs it to its end.
pub fn run_in(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    to_its_end(&mut Program::command(folder, arguments, settings))
}

/// Runs whatever it is to its end.
pub fn to_its_end(command: &mut Command) -> Output {
    // Not a pipe, which holds so much and then lets it wait.
    let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut child = command
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    // It has ended, unless it serves where it should not.
    let _ = child.kill();
    let status = child.wait().unwrap();
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output {
        status,
        stdout: read(&mut stdout),
        stderr: read(&mut stderr),
    }
}

/// Asserts that it stopped with one line on standard error that holds all of `parts`.
#[track_caller]
pub fn assert_refused(output: &Output, exit_code: i32, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "no {part} in: {error}");
    }
}
