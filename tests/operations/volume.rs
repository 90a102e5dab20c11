//! A small mounted file system that can be filled, made read-only, and unmounted.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::skip;

/// A mounted file system in memory. It is unmounted when this value is dropped.
pub struct Volume {
    folder: tempfile::TempDir,
}

impl Volume {
    /// Mounts a file system, or skips the test and returns `None` if the user has no permission to mount.
    pub fn of(megabytes: u32) -> Option<Self> {
        let volume = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let options = format!("size={megabytes}m,mode=755");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], volume.path());
        if !mounted {
            skip("a mounted file system: only root can mount one");
        }
        mounted.then_some(volume)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills the file system to the last byte.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("a file");
        // Fills the rest with ever smaller writes.
        for size in [64 * 1024, 4096, 1] {
            while file
                .write(&vec![b'x'; size])
                .is_ok_and(|written| written > 0)
            {}
        }
    }

    /// Removes the file that fills the file system.
    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).expect("to remove it");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Makes the file system read-only. Returns false if a process has a file open there for writing.
    pub fn make_read_only(&self) -> bool {
        mount(&["-o", "remount,ro"], self.path())
    }

    /// Mounts the file system at another folder too.
    pub fn mount_at(&self, folder: &Path) {
        let from = self.path().to_str().expect("UTF-8");
        assert!(mount(&["--bind", from], folder));
    }

    /// Unmounts the file system at a folder, even if files are open there.
    pub fn unmount_at(folder: &Path) {
        let output = Command::new("umount").arg("-l").arg(folder).output();
        assert!(output.is_ok_and(|output| output.status.success()));
    }

    pub fn make_writable(&self) {
        assert!(mount(&["-o", "remount,rw"], self.path()));
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(folder).output();
    output.is_ok_and(|output| output.status.success())
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: files may still be open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// Proves that the fault is a real one: otherwise tests that use it would prove nothing.
#[test]
fn full_volume_accepts_no_byte() {
    let Some(volume) = Volume::of(1) else {
        return;
    };
    let write = || std::fs::write(volume.path().join("file"), "x").is_ok();
    assert!(write());
    std::fs::remove_file(volume.path().join("file")).unwrap();
    volume.fill();
    assert!(!write());
    volume.empty();
    assert!(write());
}
