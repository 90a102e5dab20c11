//! Finds the socket of a libpq connection, to shut it down from another thread.
//!
//! Diesel does not expose libpq's handle, so the socket has to be found among those of the process. A TCP socket
//! carries a tag: libpq sets `TCP_USER_TIMEOUT` before it connects, and each connection requests a different number
//! of milliseconds. A Unix socket has no such option. So connections over Unix sockets are opened one at a time, and
//! the socket that is new belongs to the connection just opened.
//!
//! This works on Linux only. On other systems no socket is found, and a wait ends when the system's TCP gives up.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    net::Shutdown,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, MutexGuard};
use socket2::{SockAddr, SockRef};

use super::open_files::sockets;

/// `TCP_USER_TIMEOUT` of the connection with tag 0, in milliseconds. It limits how long sent data may stay
/// unacknowledged.
const BASE_TIMEOUT: u32 = 10_000;

/// Tags in use.
static TAGS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
/// Lock held while a connection over a Unix socket is opened.
static LOCAL_CONNECT: Mutex<()> = Mutex::new(());

/// Socket of one connection.
pub(crate) struct Socket {
    tag: u32,
    local: Mutex<LocalSocket>,
}

/// State of the search for a connection's Unix socket.
enum LocalSocket {
    /// The connection has no Unix socket, or it could not be distinguished from others.
    None,
    /// The socket is not among these inodes, which existed before the connection was opened.
    New(Vec<u64>),
    Found(OwnedFd),
}

/// Exclusive right to open a connection over a Unix socket.
pub(super) struct LocalConnectGuard {
    _lock: MutexGuard<'static, ()>,
}

impl Socket {
    /// Reserves a tag for a connection that is about to be opened over TCP.
    pub(super) fn over_tcp() -> Self {
        let mut tags = TAGS.lock();
        let tag = (0..).find(|tag| !tags.contains(tag)).unwrap_or_default();
        tags.insert(tag);
        Self {
            tag,
            local: Mutex::new(LocalSocket::None),
        }
    }

    /// Prepares for a connection that may use a Unix socket.
    ///
    /// [`Socket::find_local`] must be called before the guard is dropped.
    pub(super) fn over_tcp_or_locally() -> (Self, LocalConnectGuard) {
        let lock = LOCAL_CONNECT.lock();
        let before = local_sockets().map(|(inode, _)| inode).collect();
        let socket = Self::over_tcp();
        socket.set_local(LocalSocket::New(before));
        (socket, LocalConnectGuard { _lock: lock })
    }

    /// Returns the value of libpq's parameter `tcp_user_timeout` that tags the socket, in milliseconds.
    pub(super) fn tcp_user_timeout(&self) -> u32 {
        BASE_TIMEOUT + self.tag
    }

    /// Searches for the Unix socket of the connection, which has just been opened.
    pub(super) fn find_local(&self) {
        let found = match &*self.local() {
            LocalSocket::New(before) => only_new(before),
            _ => return,
        };
        self.set_local(found.map_or(LocalSocket::None, LocalSocket::Found));
    }

    /// Shuts the socket down in both directions. Returns whether the socket was found.
    pub(super) fn shut_down(&self) -> bool {
        let local = match &*self.local() {
            LocalSocket::None => None,
            LocalSocket::New(before) => only_new(before),
            LocalSocket::Found(socket) => socket.try_clone().ok(),
        };
        let found = local.or_else(|| self.find_tagged());
        // The shutdown fails if the connection has been closed in the meantime.
        if let Some(socket) = &found {
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
        found.is_some()
    }

    #[cfg(target_os = "linux")]
    fn find_tagged(&self) -> Option<OwnedFd> {
        let tag = std::time::Duration::from_millis(self.tcp_user_timeout().into());
        let mut sockets = sockets().map(|(_, socket)| socket);
        sockets.find(|socket| {
            let timeout = SockRef::from(socket).tcp_user_timeout();
            timeout.is_ok_and(|timeout| timeout == Some(tag))
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn find_tagged(&self) -> Option<OwnedFd> {
        None
    }

    fn local(&self) -> MutexGuard<'_, LocalSocket> {
        self.local.lock()
    }

    fn set_local(&self, local: LocalSocket) {
        *self.local() = local;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut tags = TAGS.lock();
        tags.remove(&self.tag);
    }
}

/// Returns the Unix socket to PostgreSQL that is not among these inodes. `None` if there is not exactly one.
fn only_new(before: &[u64]) -> Option<OwnedFd> {
    let mut new = local_sockets().filter(|(inode, _)| !before.contains(inode));
    let (inode, socket) = new.next()?;
    // Another thread that searches has duplicates of the descriptors at the same time, so an inode may repeat.
    new.all(|(other, _)| other == inode).then_some(socket)
}

/// Returns the Unix sockets of this process that are connected to PostgreSQL, with their inodes.
fn local_sockets() -> impl Iterator<Item = (u64, OwnedFd)> {
    sockets().filter(|(_, socket)| {
        let peer = SockRef::from(socket).peer_addr().ok();
        peer.as_ref().is_some_and(is_postgres_peer)
    })
}

/// Returns whether the peer has libpq's name for a Unix socket, in a folder or in the abstract namespace.
fn is_postgres_peer(peer: &SockAddr) -> bool {
    let path = peer.as_pathname().map(Path::to_owned);
    let path = path.or_else(|| {
        #[cfg(target_os = "linux")]
        let name = peer.as_abstract_namespace();
        #[cfg(not(target_os = "linux"))]
        let name = None::<&[u8]>;
        name.map(|name| PathBuf::from(OsStr::from_bytes(name)))
    });
    let name = path.as_ref().and_then(|path| path.file_name()?.to_str());
    name.is_some_and(|name| name.starts_with(".s.PGSQL."))
}
