//! A database that may not be written is no database to serve: the start says which file, and what to do.

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
    keys::text_of,
    support::{
        Program,
        postgres::unprivileged_user,
        program::{QUICK, assert_refused, run_in, to_its_end},
    },
    volume::Volume,
};

const REMEDY: &str = "let the user that runs it write";

/// The program, and a folder for it, of somebody for whom modes hold: of root they say nothing.
struct Unprivileged {
    folder: tempfile::TempDir,
    program: PathBuf,
    user: Option<(u32, u32)>,
}

impl Unprivileged {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("latchkey");
        // Where it was built, somebody else may not look.
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
        this.give_away(&this.data());
        this
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn give_away(&self, path: &Path) {
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
        to_its_end(&mut self.command())
    }

    fn set_mode(&self, name: &str, mode: u32) {
        let path = self.data().join(name);
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn in_a_folder_that_may_not_be_written_it_does_not_start() {
    let here = Unprivileged::new();
    here.set_mode("", 0o555);
    assert_refused(&here.run(), 1, &["data/latchkey.db", REMEDY]);
}

#[test]
fn folder_that_may_be_written_and_not_listed_is_enough() {
    let here = Unprivileged::new();
    Program::listening(&mut here.command()).stop();
    here.set_mode("", 0o300);
    Program::listening(&mut here.command()).stop();
}

#[test]
fn on_a_database_that_may_not_be_written_it_does_not_start() {
    let here = Unprivileged::new();
    Program::listening(&mut here.command()).stop();
    here.set_mode("latchkey.db", 0o444);
    assert_refused(&here.run(), 1, &["data/latchkey.db", REMEDY]);
    here.set_mode("latchkey.db", 0o000);
    assert_refused(&here.run(), 1, &["data/latchkey.db", REMEDY]);
    here.set_mode("latchkey.db", 0o600);
    Program::listening(&mut here.command()).stop();
}

#[test]
fn a_folder_that_becomes_read_only_stops_no_key_and_the_next_start_says_so() {
    let here = Unprivileged::new();
    let program = Program::listening(&mut here.command());
    let ada = program.client().sign_up("ada@example.com");
    let key = ada.create_key();
    here.set_mode("", 0o555);
    // Its files are open.
    let caller = program.client().with_key(text_of(&key));
    for _ in 0..20 {
        assert_eq!(caller.get("/protected").status, 200);
        let made = ada.post("/api-keys");
        assert!(matches!(made.status, 201 | 503), "{made:?}");
    }
    program.stop();
    assert_refused(&here.run(), 1, &["data/latchkey.db", REMEDY]);
    here.set_mode("", 0o755);
    let program = Program::listening(&mut here.command());
    let caller = program.client().with_key(text_of(&key));
    assert_eq!(caller.get("/protected").status, 200);
}

#[test]
fn on_a_read_only_file_system_it_does_not_start() {
    let Some(volume) = Volume::of(8) else {
        return;
    };
    let url = format!("sqlite://{}/latchkey.db", volume.path().display());
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    let folder = tempfile::tempdir().unwrap();
    Program::start(folder.path(), &settings).stop();
    assert!(volume.make_read_only());
    assert_refused(
        &run_in(folder.path(), &[], &settings),
        1,
        &["latchkey.db", "Read-only file system", REMEDY],
    );
    volume.make_writable();
    Program::start(folder.path(), &settings).stop();
}
