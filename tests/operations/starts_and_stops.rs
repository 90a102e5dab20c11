//! Signals: an orderly start and an orderly stop, and those that must not end the process.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Program, program::QUICK};

#[test]
fn a_service_that_was_asked_to_stop_has_ended_well() {
    for signal in ["TERM", "INT", "ALRM"] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path(), &QUICK);
        program.signal(signal);
        assert_eq!(program.wait().code(), Some(0), "{signal}");
    }
}

/// As `systemctl reload` does, whether or not there is a certificate.
#[test]
fn told_to_reload_what_it_does_not_have_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    program.signal("HUP");
    program.await_line("SIGHUP");
    assert_eq!(program.client().get("/health/ready").status, 200);
    program.stop();
}

/// Tools that rotate logs, monitors and habits from other servers send them.
#[test]
fn signals_without_a_meaning_here_do_not_end_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), &QUICK);
    for signal in ["USR1", "USR2"] {
        program.signal(signal);
        program.await_line(&format!("ignored SIG{signal}"));
    }
    // The system sends these two: to whoever writes to a closed pipe, or past a limit on file sizes.
    for signal in ["PIPE", "XFSZ", "WINCH"] {
        program.signal(signal);
    }
    assert_eq!(program.client().get("/health/ready").status, 200);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

/// A core dump of a process that hangs is wanted now and then.
#[test]
fn abort_ends_the_service_as_the_system_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -c 0; exec \"$0\""])
        .arg(env!("CARGO_BIN_EXE_latchkey"))
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(QUICK);
    let mut program = Program::listening(&mut shell);
    // Not QUIT, which is ignored where a shell started the tests in the background.
    program.signal("ABRT");
    assert_eq!(program.wait().signal(), Some(6));
}

/// `systemctl reload` does not know how far a start has come.
#[test]
#[cfg(target_os = "linux")]
fn signals_that_change_nothing_do_not_end_a_start_either() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    // Held by whoever starts on this database, so that the start waits.
    let lock = fs::File::create(folder.path().join("data/latchkey.db.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = Program::command(folder.path(), &[], &QUICK)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let catches = |number: u32| {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.unwrap_or_default() & (1 << (number - 1)) != 0
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    // HUP is 1, USR1 10, USR2 12.
    while ![1, 10, 12].into_iter().all(catches) {
        assert!(Instant::now() < deadline, "they are not caught");
        thread::sleep(Duration::from_millis(5));
    }
    for signal in ["HUP", "USR1", "USR2"] {
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
    }
    thread::sleep(Duration::from_millis(100));
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A supervisor that has gone away took the other end of its pipe along.
#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (settings, code) in [
        ([("PORT", "http"), ("BCRYPT_COST", "4")], 2),
        ([("PORT", port.as_str()), ("BCRYPT_COST", "4")], 1),
    ] {
        let mut child = Program::command(folder.path(), &[], &settings)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}
