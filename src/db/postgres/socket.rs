//! The socket of a connection that libpq made, to shut it from outside.
//!
//! Diesel does not show libpq's handle, so the socket has to be found. Over TCP it carries a tag: libpq
//! sets `TCP_USER_TIMEOUT` on the socket before it connects, and each connection asks for another
//! number of milliseconds. A Unix socket has no such option. There, connections are made one at a
//! time, and the one that is new belongs to the connection that was made.
//!
//! Linux only. Elsewhere nothing is found, and a wait ends when the system's TCP gives up.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    net::Shutdown,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use socket2::{SockAddr, SockRef};

use super::open_files::sockets;

/// `TCP_USER_TIMEOUT` of the connection with tag 0, in milliseconds: how long sent data may stay
/// unacknowledged.
const BASE_TIMEOUT: u32 = 10_000;

static TAGS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static MAKING_LOCAL: Mutex<()> = Mutex::new(());

/// One connection's socket.
pub(crate) struct Socket {
    tag: u32,
    local: Mutex<Local>,
}

/// The present knowledge of a connection's Unix socket.
enum Local {
    /// It has none, or it could not be told from others.
    None,
    /// It is not among these, by inode: they were there before it was made.
    New(Vec<u64>),
    Found(OwnedFd),
}

/// The right to make a connection over a Unix socket.
pub(super) struct MakingLocal {
    _turn: MutexGuard<'static, ()>,
}

impl Socket {
    /// Reserves a tag for a connection that is about to be made over TCP.
    pub(super) fn over_tcp() -> Self {
        let mut tags = TAGS.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = (0..).find(|tag| !tags.contains(tag)).unwrap_or_default();
        tags.insert(tag);
        Self {
            tag,
            local: Mutex::new(Local::None),
        }
    }

    /// Prepares for a connection that may be made over a Unix socket. [`Socket::find_local`] must be called
    /// before the second value is dropped.
    pub(super) fn over_tcp_or_locally() -> (Self, MakingLocal) {
        let making = MAKING_LOCAL.lock().unwrap_or_else(PoisonError::into_inner);
        let before = local_sockets().map(|(inode, _)| inode).collect();
        let socket = Self::over_tcp();
        socket.set_local(Local::New(before));
        (socket, MakingLocal { _turn: making })
    }

    /// The value of libpq's parameter `tcp_user_timeout` that marks the socket, in milliseconds.
    pub(super) fn tcp_user_timeout(&self) -> u32 {
        BASE_TIMEOUT + self.tag
    }

    /// Looks for the Unix socket of the connection, which has just been made.
    pub(super) fn find_local(&self) {
        let found = match &*self.local() {
            Local::New(before) => only_new(before),
            _ => return,
        };
        self.set_local(found.map_or(Local::None, Local::Found));
    }

    /// Ends all that is sent and awaited on it. Returns whether it was found.
    pub(super) fn shut_down(&self) -> bool {
        let local = match &*self.local() {
            Local::None => None,
            Local::New(before) => only_new(before),
            Local::Found(socket) => socket.try_clone().ok(),
        };
        let found = local.or_else(|| self.find_tagged());
        // It may have been closed in the meantime.
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

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_local(&self, local: Local) {
        *self.local() = local;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut tags = TAGS.lock().unwrap_or_else(PoisonError::into_inner);
        tags.remove(&self.tag);
    }
}

/// The one Unix socket to PostgreSQL that is not among these. `None` if there are several.
fn only_new(before: &[u64]) -> Option<OwnedFd> {
    let mut new = local_sockets().filter(|(inode, _)| !before.contains(inode));
    let (inode, socket) = new.next()?;
    // Whoever else looks at the sockets has copies of their descriptors meanwhile.
    new.all(|(other, _)| other == inode).then_some(socket)
}

/// The Unix sockets of this process that lead to a PostgreSQL, with their inodes.
fn local_sockets() -> impl Iterator<Item = (u64, OwnedFd)> {
    sockets().filter(|(_, socket)| {
        let peer = SockRef::from(socket).peer_addr().ok();
        peer.as_ref().is_some_and(leads_to_postgres)
    })
}

/// libpq's name for the socket in a folder, also in the abstract namespace.
fn leads_to_postgres(peer: &SockAddr) -> bool {
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
