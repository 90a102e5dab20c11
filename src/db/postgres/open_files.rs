//! Lists the sockets that this process has open.

#![expect(
    unsafe_code,
    reason = "the descriptors are known only by their numbers"
)]

use std::{
    fs,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
};

use rustix::fs::fstat;

/// Duplicates the descriptors of all open sockets, and returns them with the sockets' inodes, in no order.
///
/// Returns none on systems that do not list descriptors in `/proc`. A duplicate refers to the same socket even if
/// the original descriptor is closed and its number is used again.
pub(super) fn sockets() -> impl Iterator<Item = (u64, OwnedFd)> {
    let listed = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    // All links are read before the first descriptor is duplicated: a duplicate may get a number that was listed.
    let sockets: Vec<(RawFd, u64)> = listed
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            // A file's descriptor must not be duplicated: closing the duplicate would drop SQLite's locks on the file.
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some((number, inode.parse().ok()?))
        })
        .collect();
    sockets.into_iter().filter_map(|(number, inode)| {
        let copy = duplicate(number)?;
        // The number may belong to another socket by now.
        let is_same_socket = fstat(&copy).is_ok_and(|stat| stat.st_ino == inode);
        is_same_socket.then_some((inode, copy))
    })
}

fn duplicate(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the owner may close the descriptor at any time. It is used only to ask the system for a duplicate,
    // which fails if the descriptor is not open. The duplicate is owned.
    unsafe { BorrowedFd::borrow_raw(number) }
        .try_clone_to_owned()
        .ok()
}
