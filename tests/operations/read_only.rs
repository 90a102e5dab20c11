//! Read-only folder, file or file system of the embedded database: the start fails with the file and the remedy.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    keys::full_key,
    support::{
        Program,
        postgres::unprivileged_user,
        program::{QUICK, assert_fails_with_one_line, run_in, run_to_completion},
    },
    volume::Volume,
};

const REMEDY: &str = "grant write access to the user that runs latchkey";

/// A copy of the program and a folder that belong to an unprivileged user: file modes do not restrict root.
struct Unprivileged {
    folder: tempfile::TempDir,
    program: PathBuf,
    user: Option<(u32, u32)>,
}

impl Unprivileged {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("latchkey");
        // The unprivileged user may have no access to the build folder.
        let built = env!("CARGO_BIN_EXE_latchkey");
        if fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program).unwrap();
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let user = unprivileged_user();
        let this = Self {
            folder,
            program,
            user,
        };
        fs::create_dir(this.data()).unwrap();
        this.give_to_user(&this.data());
        this
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn give_to_user(&self, path: &Path) {
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .envs(QUICK);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self) -> Output {
        run_to_completion(&mut self.command())
    }

    fn set_mode(&self, name: &str, mode: u32) {
        let path = self.data().join(name);
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn server_starts_in_a_folder_that_is_writable_but_not_readable() {
    let here = Unprivileged::new();
    Program::listening(&mut here.command()).stop();
    here.set_mode("", 0o300);
    Program::listening(&mut here.command()).stop();
}

#[test]
fn read_only_folder_stops_the_start() {
    let here = Unprivileged::new();
    here.set_mode("", 0o555);
    assert_fails_with_one_line(&here.run(), 1, &["data/latchkey.db", REMEDY]);
}

#[test]
fn read_only_database_file_stops_the_start() {
    let here = Unprivileged::new();
    Program::listening(&mut here.command()).stop();
    here.set_mode("latchkey.db", 0o444);
    assert_fails_with_one_line(&here.run(), 1, &["data/latchkey.db", REMEDY]);
    here.set_mode("latchkey.db", 0o000);
    assert_fails_with_one_line(&here.run(), 1, &["data/latchkey.db", REMEDY]);
    here.set_mode("latchkey.db", 0o600);
    Program::listening(&mut here.command()).stop();
}

#[test]
fn folder_made_read_only_allows_key_checks_and_stops_the_next_start() {
    let here = Unprivileged::new();
    let program = Program::listening(&mut here.command());
    let ada = program.client().sign_up("ada@example.com");
    let key = ada.create_key();
    here.set_mode("", 0o555);
    // The files are open already.
    let caller = program.client().with_key(full_key(&key));
    for _ in 0..20 {
        assert_eq!(caller.get("/protected").status, 200);
        let reply = ada.post("/api-keys");
        assert!(matches!(reply.status, 201 | 503), "{reply:?}");
    }
    program.stop();
    assert_fails_with_one_line(&here.run(), 1, &["data/latchkey.db", REMEDY]);
    here.set_mode("", 0o755);
    let program = Program::listening(&mut here.command());
    let caller = program.client().with_key(full_key(&key));
    assert_eq!(caller.get("/protected").status, 200);
}

#[test]
fn read_only_file_system_stops_the_start() {
    let Some(volume) = Volume::of(8) else {
        return;
    };
    let url = format!("sqlite://{}/latchkey.db", volume.path().display());
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    let folder = tempfile::tempdir().unwrap();
    Program::start(folder.path(), &settings).stop();
    assert!(volume.make_read_only());
    assert_fails_with_one_line(
        &run_in(folder.path(), &[], &settings),
        1,
        &["latchkey.db", "Read-only file system", REMEDY],
    );
    volume.make_writable();
    Program::start(folder.path(), &settings).stop();
}
