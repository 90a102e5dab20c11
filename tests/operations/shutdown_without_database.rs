//! Shutdown during a database outage: it ends in time, and reports the usage counts that are lost.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::full_key,
    support::{Program, postgres, postgres::End, program::QUICK},
};

/// Starts the program with its standard error in the file `error`.
fn start(folder: &Path, settings: &[(&str, &str)]) -> Program {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$0\" 2> error"])
        .arg(env!("CARGO_BIN_EXE_latchkey"))
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(settings.iter().copied());
    Program::listening(&mut shell)
}

/// Returns the standard error of the program, without the lines that the library of PostgreSQL prints.
fn error_output(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("error")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("WARNING:"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn shutdown_without_the_database_reports_the_counts_lost() {
    let Some(mut database) = postgres::private_server() else {
        return;
    };
    let url = database.url.clone();
    let more = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"),
        ("CACHE_LEASE_SECONDS", "30"),
        ("SHUTDOWN_SECONDS", "30"),
    ];
    let settings = [&QUICK[..], &more].concat();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [mut used, mut unused] = folders.each_ref().map(|f| start(f.path(), &settings));
    let key = used.client().sign_up("ada@example.com").create_key();
    let caller = used.client().with_key(full_key(&key));
    assert_eq!(caller.get("/protected").status, 200);
    database.stop(End::Crash);
    for _ in 0..20 {
        assert_eq!(caller.get("/protected").status, 200);
    }
    drop(caller);
    let signaled = Instant::now();
    for program in [&used, &unused] {
        program.signal("TERM");
    }
    assert_eq!(unused.wait().code(), Some(0));
    assert_eq!(used.wait().code(), Some(1));
    assert!(signaled.elapsed() < Duration::from_secs(25));
    let printed = folders.each_ref().map(|folder| error_output(folder.path()));
    assert_eq!(printed[1], "");
    assert_eq!(printed[0].lines().count(), 1, "{}", printed[0]);
    assert!(printed[0].starts_with("latchkey: lost "), "{}", printed[0]);
    assert!(printed[0].contains("counted checks"), "{}", printed[0]);
    for program in [&used, &unused] {
        program.await_line("stopped");
        assert_eq!(program.said("SHUTDOWN_SECONDS"), 0);
    }
}

#[test]
fn second_signal_without_the_database_reports_the_counts_lost() {
    let Some(mut database) = postgres::private_server() else {
        return;
    };
    let url = database.url.clone();
    let more = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"),
        ("CACHE_LEASE_SECONDS", "30"),
        ("SHUTDOWN_SECONDS", "60"),
        ("DRAIN_SECONDS", "30"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut program = start(folder.path(), &[&QUICK[..], &more].concat());
    let key = program.client().sign_up("ada@example.com").create_key();
    let caller = program.client().with_key(full_key(&key));
    assert_eq!(caller.get("/protected").status, 200);
    database.stop(End::Crash);
    for _ in 0..20 {
        assert_eq!(caller.get("/protected").status, 200);
    }
    drop(caller);
    program.signal("TERM");
    program.await_line("shutting down");
    // An earlier second signal would be ignored as a repeat.
    thread::sleep(Duration::from_secs(1));
    let signaled = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(1));
    assert!(
        signaled.elapsed() < Duration::from_secs(6),
        "{:?}",
        signaled.elapsed()
    );
    let printed = error_output(folder.path());
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(
        printed.starts_with("latchkey: stopped at once"),
        "{printed}"
    );
    let lost = printed.split("lost up to ").nth(1).expect(&printed);
    let lost: u64 = lost.split(' ').next().unwrap().parse().unwrap();
    // The count of the first check may have been written.
    assert!((20..=21).contains(&lost), "{printed}");
}
