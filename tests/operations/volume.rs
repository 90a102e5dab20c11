//! A small file system of its own, which can be filled and be made read-only.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::skip;

/// It is gone when this is dropped.
pub struct Volume {
    folder: tempfile::TempDir,
}

impl Volume {
    /// `None`, with a word about it, for whoever may not mount one.
    pub fn of(megabytes: u32) -> Option<Self> {
        let volume = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let options = format!("size={megabytes}m,mode=755");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], volume.path());
        if !mounted {
            skip("a file system of its own: who is not root may not mount one");
        }
        mounted.then_some(volume)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no byte of it.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("a file");
        // What does not fit as a whole may fit in part.
        for size in [64 * 1024, 4096, 1] {
            while file
                .write(&vec![b'x'; size])
                .is_ok_and(|written| written > 0)
            {}
        }
    }

    /// Takes back what filled it.
    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).expect("to remove it");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// `false` while somebody has a file open there to write.
    pub fn make_read_only(&self) -> bool {
        mount(&["-o", "remount,ro"], self.path())
    }

    /// Mounts it in another folder as well.
    pub fn also_at(&self, folder: &Path) {
        let from = self.path().to_str().expect("UTF-8");
        assert!(mount(&["--bind", from], folder));
    }

    /// Unmounts it there, also while something in it is open.
    pub fn no_longer_at(folder: &Path) {
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
        // Also while something in it is open still.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// A fault that is not one would prove nothing.
#[test]
fn a_full_volume_takes_not_a_byte() {
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
