//! Runs the built program as a process.

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

/// A running `latchkey serve`. It is killed when this value is dropped.
pub struct Program {
    pub base: String,
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Program {
    /// Returns the command that runs the program, with an empty environment except for `settings`.
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

    /// Starts the program in `folder` and waits until it has logged its address.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::listening(&mut Self::command(folder, &[], settings))
    }

    /// Starts any program that logs `listening on` with its address, and waits until it has done so.
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
        let base =
            base.unwrap_or_else(|_| panic!("the program does not listen: {:?}", output.lock()));
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

    /// Waits until the program has printed this text.
    pub fn await_line(&self, part: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.said(part) == 0 {
            assert!(
                Instant::now() < deadline,
                "the program does not print {part}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the program has printed this text, and returns the rest of that line.
    pub fn said_after(&self, part: &str) -> String {
        self.await_line(part);
        let output = self.output.lock().expect("the output");
        let after = output.split(part).nth(1).expect("a line with the text");
        after.lines().next().unwrap_or_default().to_owned()
    }

    /// Returns how many times the program has printed this text.
    pub fn said(&self, part: &str) -> usize {
        let output = self.output.lock().expect("the output");
        output.matches(part).count()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("its end")
    }

    /// Ends the program with SIGTERM and returns everything that it has printed.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait().expect("its state").is_none() {
            assert!(Instant::now() < deadline, "the program does not end");
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

/// Settings for a fast start: a free port, and cheap password hashes.
pub const QUICK: [(&str, &str); 2] = [("PORT", "0"), ("BCRYPT_COST", "4")];

/// Runs the program until it exits, in a temporary folder.
pub fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), arguments, settings)
}

/// Runs the program until it exits, in this folder.
pub fn run_in(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    run_to_completion(&mut Program::command(folder, arguments, settings))
}

/// Runs a command until it exits, for at most 60 seconds.
pub fn run_to_completion(command: &mut Command) -> Output {
    // Files instead of pipes: a process that fills a pipe blocks.
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
    // This has an effect only if the program serves although it should have failed.
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

/// Asserts that the program exited with this code and one line on standard error that contains all of `parts`.
#[track_caller]
pub fn assert_fails_with_one_line(output: &Output, exit_code: i32, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "no {part} in: {error}");
    }
}
