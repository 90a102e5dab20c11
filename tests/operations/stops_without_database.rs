//! Stopped while the database is away: the end comes in time, and says what was lost.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::text_of,
    support::{Program, postgres, postgres::End, program::QUICK},
};

/// With what it says to whoever started it in the file `error`.
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

/// Its output on standard error, without the lines that PostgreSQL's library prints itself.
fn own_words(folder: &Path) -> String {
    let said = fs::read_to_string(folder.join("error")).unwrap();
    let own = said.lines().filter(|line| !line.starts_with("WARNING:"));
    own.map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_could_not_be_written_is_said_and_only_that() {
    let Some(mut database) = postgres::own_server() else {
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
    let caller = used.client().with_key(text_of(&key));
    assert_eq!(caller.get("/protected").status, 200);
    database.stop(End::AtOnce);
    for _ in 0..20 {
        assert_eq!(caller.get("/protected").status, 200);
    }
    drop(caller);
    let told = Instant::now();
    for program in [&used, &unused] {
        program.signal("TERM");
    }
    assert_eq!(unused.wait().code(), Some(0));
    assert_eq!(used.wait().code(), Some(1));
    assert!(told.elapsed() < Duration::from_secs(25));
    let said = folders.each_ref().map(|folder| own_words(folder.path()));
    assert_eq!(said[1], "");
    assert_eq!(said[0].lines().count(), 1, "{}", said[0]);
    assert!(said[0].starts_with("latchkey: lost "), "{}", said[0]);
    assert!(said[0].contains("counted checks"), "{}", said[0]);
    for program in [&used, &unused] {
        program.await_line("stopped");
        assert_eq!(program.said("SHUTDOWN_SECONDS"), 0);
    }
}

#[test]
fn ended_at_once_without_a_database_it_says_how_many_counts_are_lost() {
    let Some(mut database) = postgres::own_server() else {
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
    let caller = program.client().with_key(text_of(&key));
    assert_eq!(caller.get("/protected").status, 200);
    database.stop(End::AtOnce);
    for _ in 0..20 {
        assert_eq!(caller.get("/protected").status, 200);
    }
    drop(caller);
    program.signal("TERM");
    program.await_line("stopping");
    // Before that it would be a repeat.
    thread::sleep(Duration::from_secs(1));
    let told = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(1));
    assert!(
        told.elapsed() < Duration::from_secs(6),
        "{:?}",
        told.elapsed()
    );
    let said = own_words(folder.path());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("latchkey: stopped at once"), "{said}");
    let lost = said.split("lost up to ").nth(1).expect(&said);
    let lost: u64 = lost.split(' ').next().unwrap().parse().unwrap();
    // The first one may have been written.
    assert!((20..=21).contains(&lost), "{said}");
}
