//! The file of the embedded database disappears or is replaced under the running service.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use serde_json::Value;

use crate::{
    keys::{Changes, await_ready, text_of},
    support::{
        Client, Program, path_of,
        program::{QUICK, assert_refused, run_in},
        server::query,
    },
    volume::Volume,
};

/// The time within which the service has to notice it.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);
/// Longer than any test, so that only the loss of the file can end it.
const LONG_LEASE: (&str, &str) = ("CACHE_LEASE_SECONDS", "60");
const INTEGRITY: &str = "SELECT integrity_check AS text FROM pragma_integrity_check";

/// A service on a database in a folder of its own.
pub struct Service {
    /// The program's working directory, which no test takes away.
    pub home: tempfile::TempDir,
    pub folder: PathBuf,
    url: String,
}

impl Service {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("data");
        fs::create_dir(&folder).unwrap();
        Self::at(home, folder)
    }

    fn at(home: tempfile::TempDir, folder: PathBuf) -> Self {
        let url = format!("sqlite://{}/latchkey.db", folder.display());
        Self { home, folder, url }
    }

    pub fn settings(&self) -> Vec<(&str, &str)> {
        [&QUICK[..], &[("DATABASE_URL", &self.url), LONG_LEASE]].concat()
    }

    pub fn start(&self) -> Program {
        Program::start(self.home.path(), &self.settings())
    }

    pub fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("latchkey.db{end}"))
    }

    pub fn back_up(&self, name: &str) -> PathBuf {
        let file = self.home.path().join(name);
        let arguments = ["backup", file.to_str().unwrap()];
        let output = run_in(self.home.path(), &arguments, &self.settings());
        assert!(output.status.success(), "{output:?}");
        file
    }

    pub fn assert_whole(&self) {
        assert_eq!(query(&self.url, INTEGRITY), ["ok"]);
    }
}

/// A key that the service has cached, and its owner.
pub struct Cached {
    pub owner: Client,
    pub key: Value,
    caller: Client,
}

impl Cached {
    pub fn at(program: &Program) -> Self {
        let owner = program.client().sign_up("ada@example.com");
        let key = owner.create_key();
        let caller = program.client().with_key(text_of(&key));
        assert_eq!(caller.get("/protected").status, 200);
        Self { owner, key, caller }
    }

    /// Waits until nothing is served any more, and answers what is missing.
    #[track_caller]
    pub fn await_loss(&self, since: Instant) -> String {
        while self.caller.get("/protected").status == 200 {
            assert!(since.elapsed() < NOTICED_WITHIN, "it is not noticed");
            thread::sleep(Duration::from_millis(10));
        }
        self.assert_nothing_served()
    }

    #[track_caller]
    pub fn assert_nothing_served(&self) -> String {
        self.caller
            .get("/protected")
            .assert_problem(503, "unavailable");
        self.owner
            .get("/auth/me")
            .assert_problem(503, "unavailable");
        self.owner
            .post("/api-keys")
            .assert_problem(503, "unavailable");
        let checks = self.owner.get("/health/ready?for=checks");
        checks.assert_problem(503, "unavailable");
        assert_eq!(self.owner.get("/health/live").status, 200);
        let problem = self
            .owner
            .get("/health/ready")
            .assert_problem(503, "unavailable");
        problem["detail"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn await_service(&self) {
        await_ready(&self.owner);
        assert_eq!(self.caller.get("/protected").status, 200);
        assert_eq!(self.owner.post("/api-keys").status, 201);
    }
}

/// That it said so once, with the file and the remedy, and stops in order.
#[track_caller]
pub fn assert_said_once(program: Program, parts: &[&str]) {
    let said = program.stop();
    let is_error = |line: &&str| line.contains("ERROR") && line.contains("the database:");
    let errors: Vec<_> = said.lines().filter(is_error).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    for part in parts {
        assert!(errors[0].contains(part), "no {part} in: {}", errors[0]);
    }
}

pub fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn deleted_file_ends_the_service_and_nothing_is_created_in_its_place() {
    let service = Service::new();
    let program = service.start();
    let cached = Cached::at(&program);
    fs::remove_file(service.file("")).unwrap();
    let since = Instant::now();
    assert_eq!(cached.owner.post("/api-keys").status, 503);
    let missing = cached.await_loss(since);
    assert!(missing.contains("the database file is gone"), "{missing}");
    // Connections that are opened later create none either.
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(cached.owner.post("/api-keys").status, 503);
                }
            });
        }
    });
    assert!(!service.file("").exists());
    assert_said_once(program, &["latchkey.db", "restart"]);
    assert!(!service.file("").exists());
}

#[test]
fn change_that_is_acknowledged_is_in_the_file_at_the_path() {
    for _ in 0..5 {
        let service = Service::new();
        let program = service.start();
        let changes = Changes::at(&program.client(), 4);
        while changes.count() < 40 {
            thread::sleep(Duration::from_millis(5));
        }
        let away = service.home.path().join("away.db");
        fs::rename(service.file(""), &away).unwrap();
        // Those under way are answered by now.
        thread::sleep(Duration::from_millis(300));
        let noted = changes.stop();
        drop(program);
        // With its log it is all that was acknowledged.
        fs::rename(&away, service.file("")).unwrap();
        let program = service.start();
        noted.assert_holds(&program.client());
    }
}

#[test]
fn file_that_comes_back_is_served_again_without_a_restart() {
    let service = Service::new();
    let program = service.start();
    let cached = Cached::at(&program);
    for name in ["", "away.db"] {
        let away = service.home.path().join("away").join(name);
        let (from, to) = match name {
            // The whole folder, and the file alone.
            "" => (service.folder.clone(), service.home.path().join("moved")),
            _ => {
                fs::create_dir_all(away.parent().unwrap()).unwrap();
                (service.file(""), away)
            }
        };
        fs::rename(&from, &to).unwrap();
        cached.await_loss(Instant::now());
        assert!(!from.exists());
        fs::rename(&to, &from).unwrap();
        cached.await_service();
    }
    program.stop();
    service.assert_whole();
}

#[test]
fn file_that_comes_back_is_served_again_also_if_somebody_was_reading_when_it_went() {
    let service = Service::new();
    let program = service.start();
    let cached = Cached::at(&program);
    let mut reader = SqliteConnection::establish(service.file("").to_str().unwrap()).unwrap();
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM users")
        .unwrap();
    // What this writes is behind what the reader sees, so that the log cannot be emptied.
    assert_eq!(cached.owner.post("/api-keys").status, 201);
    let away = service.home.path().join("away.db");
    fs::rename(service.file(""), &away).unwrap();
    cached.await_loss(Instant::now());
    // Longer than what is in the file must be from the service itself.
    thread::sleep(Duration::from_secs(3));
    drop(reader);
    fs::rename(&away, service.file("")).unwrap();
    cached.await_service();
    program.stop();
    service.assert_whole();
}

#[test]
fn file_that_comes_back_changed_is_served_after_a_restart() {
    let service = Service::new();
    let program = service.start();
    let cached = Cached::at(&program);
    let away = service.home.path().join("away.db");
    fs::rename(service.file(""), &away).unwrap();
    cached.await_loss(Instant::now());
    program.await_line("all changes are in the database file");
    let elsewhere = format!("sqlite://{}", away.display());
    let secret = fs::read_to_string(service.file(".jwt-secret")).unwrap();
    let settings = [("DATABASE_URL", &*elsewhere), ("JWT_SECRET", &secret)];
    let other = Program::start(service.home.path(), &[&QUICK[..], &settings].concat());
    let token = cached.owner.header("authorization");
    let owner = other.client().with("authorization", &token);
    assert_eq!(owner.delete(&path_of(&cached.key)).status, 200);
    let new: Vec<_> = (0..200).map(|_| owner.create_key()).collect();
    other.stop();
    fs::rename(&away, service.file("")).unwrap();
    program.await_line("another process has changed it");
    let missing = cached.assert_nothing_served();
    assert!(missing.contains("has changed it"), "{missing}");
    program.stop();
    let program = service.start();
    let status = |key| {
        let caller = program.client().with_key(text_of(key));
        caller.get("/protected").status
    };
    assert_eq!(status(&cached.key), 401);
    for key in &new {
        assert_eq!(status(key), 200);
    }
    program.stop();
    service.assert_whole();
}

#[test]
fn unmounted_volume_ends_the_service_until_it_is_mounted_again() {
    let Some(volume) = Volume::of(8) else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    fs::create_dir(&folder).unwrap();
    volume.also_at(&folder);
    let service = Service::at(home, folder);
    let program = service.start();
    let cached = Cached::at(&program);
    Volume::no_longer_at(&service.folder);
    cached.await_loss(Instant::now());
    assert!(names_in(&service.folder).is_empty());
    volume.also_at(&service.folder);
    cached.await_service();
    // At any moment of what the service does by itself.
    for wait in 0..10 {
        thread::sleep(Duration::from_millis(37 * wait));
        Volume::no_longer_at(&service.folder);
        cached.await_loss(Instant::now());
        assert_eq!(names_in(&service.folder), [""; 0]);
        volume.also_at(&service.folder);
        cached.await_service();
    }
    Volume::no_longer_at(&service.folder);
    cached.await_loss(Instant::now());
    program.stop();
    assert_eq!(names_in(&service.folder), [""; 0]);
}

#[test]
fn lost_log_ends_the_service_and_loses_nothing() {
    for end in ["-wal", "-shm"] {
        let service = Service::new();
        let program = service.start();
        let cached = Cached::at(&program);
        let keys = [(); 20].map(|()| cached.owner.create_key());
        fs::remove_file(service.file(end)).unwrap();
        let missing = cached.await_loss(Instant::now());
        assert!(missing.contains(end), "{missing}");
        assert!(!service.file(end).exists());
        program.await_line("ERROR");
        // Everything is in the database's file by then.
        program.await_line("are in");
        drop(program);
        let program = service.start();
        for key in &keys {
            let caller = program.client().with_key(text_of(key));
            assert_eq!(caller.get("/protected").status, 200);
        }
        program.stop();
        service.assert_whole();
    }
}

#[test]
fn log_without_its_database_is_not_given_to_a_new_one() {
    let service = Service::new();
    let program = service.start();
    let cached = Cached::at(&program);
    drop(program);
    let away = service.home.path().join("away.db");
    fs::rename(service.file(""), &away).unwrap();
    let output = run_in(service.home.path(), &[], &service.settings());
    assert_refused(&output, 1, &["latchkey.db-wal"]);
    assert!(!service.file("").exists());
    fs::rename(&away, service.file("")).unwrap();
    let program = service.start();
    let caller = program.client().with_key(text_of(&cached.key));
    assert_eq!(caller.get("/protected").status, 200);
}

#[test]
fn file_whose_name_has_characters_with_a_meaning_in_uris_is_served() {
    let home = tempfile::tempdir().unwrap();
    let name = "a 50%off&d=é;:'\"";
    let url = format!("sqlite://{name}/latch&mode=memory%.db");
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    let program = Program::start(home.path(), &settings);
    program.client().sign_up("ada@example.com");
    program.stop();
    let folder = home.path().join(name);
    assert!(names_in(&folder).contains(&"latch&mode=memory%.db".to_owned()));
    let output = Command::new("ls").arg(home.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let program = Program::start(home.path(), &settings);
    assert_eq!(
        program
            .client()
            .post_json(
                "/auth/login",
                &serde_json::json!({"email": "ada@example.com", "password": crate::support::PASSWORD})
            )
            .status,
        200
    );
}
