//! Reserve file of the embedded database: space for changes that withdraw access when the disk is full.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    keys::{await_ready, full_key},
    support::{
        Client, PASSWORD, Program, path_of,
        program::{QUICK, run_in},
        server::query,
    },
    volume::Volume,
};

/// Size that docs/operations.md states.
const RESERVE: u64 = 1024 * 1024;

/// A service on a small volume that can be filled.
struct FullDisk {
    volume: Volume,
    folder: tempfile::TempDir,
    url: String,
}

impl FullDisk {
    fn on(volume: Volume) -> Self {
        let url = format!("sqlite://{}/latchkey.db", volume.path().display());
        Self {
            volume,
            folder: tempfile::tempdir().unwrap(),
            url,
        }
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        [&QUICK[..], &[("DATABASE_URL", &self.url)]].concat()
    }

    fn start(&self) -> Program {
        Program::start(self.folder.path(), &self.settings())
    }

    fn reserve(&self) -> PathBuf {
        self.volume.path().join("latchkey.db.reserve")
    }

    fn await_reserve(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let is_whole = |file: fs::Metadata| file.len() == RESERVE && file.blocks() * 512 >= RESERVE;
        while !fs::metadata(self.reserve()).is_ok_and(is_whole) {
            assert!(Instant::now() < deadline, "there is no reserve");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fills the disk until creating a key fails.
    fn fill(&self, owner: &Client) {
        self.volume.fill();
        let deadline = Instant::now() + Duration::from_secs(30);
        while owner.post("/api-keys").status != 503 {
            assert!(Instant::now() < deadline, "the disk is not full");
        }
    }
}

fn status_of(client: &Client, key: &Value) -> u16 {
    client.with_key(full_key(key)).get("/protected").status
}

#[test]
fn full_disk_is_ready_for_checks_only_and_allows_revocations_and_deactivations() {
    let Some(volume) = Volume::of(12) else {
        return;
    };
    let full = FullDisk::on(volume);
    let program = full.start();
    let client = program.client();
    let ada = client.sign_up("ada@example.com");
    let eve = client.sign_up("eve@example.com");
    let output = run_in(
        full.folder.path(),
        &["admin", "grant", "ada@example.com"],
        &full.settings(),
    );
    assert!(output.status.success(), "{output:?}");
    let keys = [(); 4].map(|()| ada.create_key());
    let [own, by_operator, disabled, good] = &keys;
    let key_of_eve = eve.create_key();
    for key in keys.iter().chain([&key_of_eve]) {
        assert_eq!(status_of(&client, key), 200);
    }
    full.await_reserve();
    let mode = fs::metadata(full.reserve()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);

    full.fill(&ada);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        let problem = client
            .get("/health/ready")
            .assert_problem(503, "unavailable");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("disk is full"), "{detail}");
        assert_eq!(client.get("/health/ready?for=checks").status, 200);
        assert_eq!(status_of(&client, good), 200);
        thread::sleep(Duration::from_millis(50));
    }

    let revoked = ada.delete(&path_of(own));
    assert_eq!(revoked.status, 200, "{revoked:?}");
    assert_eq!(status_of(&client, own), 401);
    let path = format!("/admin{}", path_of(by_operator));
    assert_eq!(ada.delete(&path).status, 200);
    assert_eq!(status_of(&client, by_operator), 401);
    let change = json!({"enabled": false});
    assert_eq!(ada.patch_json(&path_of(disabled), &change).status, 200);
    assert_eq!(status_of(&client, disabled), 401);
    let change = json!({"active": false});
    assert_eq!(ada.change_user(&eve.id(), &change).status, 200);
    assert_eq!(status_of(&client, &key_of_eve), 401);
    let bob = client.log_in("ada@example.com", PASSWORD);
    assert_eq!(bob.post("/auth/logout").status, 204);
    assert_eq!(bob.get("/auth/me").status, 401);
    assert_eq!(status_of(&client, good), 200);

    full.volume.empty();
    let since = Instant::now();
    await_ready(&client);
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
    let ada = client.log_in("ada@example.com", PASSWORD);
    assert_eq!(ada.post("/api-keys").status, 201);
    full.await_reserve();
    drop(program);
    let program = full.start();
    let client = program.client();
    for key in [own, by_operator, disabled, &key_of_eve] {
        assert_eq!(status_of(&client, key), 401);
    }
    assert_eq!(status_of(&client, good), 200);
    program.stop();
    let integrity = "SELECT integrity_check AS text FROM pragma_integrity_check";
    assert_eq!(query(&full.url, integrity), ["ok"]);
}

#[test]
fn full_disk_allows_at_least_eight_revocations() {
    let Some(volume) = Volume::of(12) else {
        return;
    };
    let full = FullDisk::on(volume);
    let program = full.start();
    let ada = program.client().sign_up("ada@example.com");
    let keys = [(); 8].map(|()| ada.create_key());
    full.await_reserve();
    full.fill(&ada);
    for key in &keys {
        // Other changes use the space that a revocation has left.
        full.fill(&ada);
        let revoked = ada.delete(&path_of(key));
        assert_eq!(revoked.status, 200, "{revoked:?}");
        assert_eq!(status_of(&program.client(), key), 401);
    }
    // In the end the reserve is used up.
    full.fill(&ada);
    assert_eq!(fs::metadata(full.reserve()).unwrap().len(), 0);
    full.volume.empty();
    await_ready(&program.client());
    full.await_reserve();
}
