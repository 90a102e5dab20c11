//! Signals: those that shut the service down, and those that must not end the process or a start.

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
fn term_int_and_alrm_shut_the_service_down_with_exit_code_0() {
    for signal in ["TERM", "INT", "ALRM"] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path(), &QUICK);
        program.signal(signal);
        assert_eq!(program.wait().code(), Some(0), "{signal}");
    }
}

/// `systemctl reload` sends SIGHUP whether or not there is a certificate.
#[test]
fn sighup_without_a_certificate_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    program.signal("HUP");
    program.await_line("SIGHUP");
    assert_eq!(program.client().get("/health/ready").status, 200);
    program.stop();
}

/// Log rotation and monitoring tools, and operators used to other servers, send these signals.
#[test]
fn ignored_signals_do_not_end_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), &QUICK);
    for signal in ["USR1", "USR2"] {
        program.signal(signal);
        program.await_line(&format!("ignored SIG{signal}"));
    }
    // The system sends PIPE on a write to a closed pipe, and XFSZ on a write past a limit on file sizes.
    for signal in ["PIPE", "XFSZ", "WINCH"] {
        program.signal(signal);
    }
    assert_eq!(program.client().get("/health/ready").status, 200);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

/// Operators use it to get a core dump of a process that hangs.
#[test]
fn sigabrt_ends_the_service_by_the_default_action() {
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
    // Not QUIT, which is ignored if a shell has started the tests in the background.
    program.signal("ABRT");
    assert_eq!(program.wait().signal(), Some(6));
}

/// `systemctl reload` may send a signal before the start is complete.
#[test]
#[cfg(target_os = "linux")]
fn ignored_signals_do_not_end_a_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    // Holds the lock that a start takes on this database, so that the start waits.
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
        assert!(Instant::now() < deadline, "the signals are not handled");
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

/// The pipe is closed if the supervisor at the other end has ended.
#[test]
fn closed_standard_error_changes_no_exit_code() {
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
