//! The sockets that this process has open.

#![expect(unsafe_code, reason = "a descriptor that is known by its number only")]

use std::{
    fs,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
};

use rustix::fs::fstat;

/// Copies of the descriptors of all sockets that are open, in no order, with the sockets' inodes. Empty
/// where the system does not list them in `/proc`.
///
/// A copy refers to the same socket, whatever happens to the number that it was made of.
pub(super) fn sockets() -> impl Iterator<Item = (u64, OwnedFd)> {
    let listed = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    // All are looked at before the first is copied: a copy may get a number that was listed.
    let sockets: Vec<(RawFd, u64)> = listed
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            // A file's descriptor must not be copied: closing the copy would drop SQLite's locks on it.
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some((number, inode.parse().ok()?))
        })
        .collect();
    sockets.into_iter().filter_map(|(number, inode)| {
        let copy = copy_of(number)?;
        // The number may be another socket's by now.
        let is_the_same = fstat(&copy).is_ok_and(|stat| stat.st_ino == inode);
        is_the_same.then_some((inode, copy))
    })
}

fn copy_of(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the descriptor may be closed by its owner at any time. Nothing is done with it but to ask
    // the system for a copy, which fails where it is not open. The copy is owned.
    unsafe { BorrowedFd::borrow_raw(number) }
        .try_clone_to_owned()
        .ok()
}
