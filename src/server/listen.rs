//! Listening socket: binds it, and stops accepting new connections without losing waiting ones.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
};

use socket2::{Domain, SockRef, Socket, Type};

use super::StartError;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Bytes of responses that the system buffers per connection, besides those in flight. Without this bound it would
/// buffer some MiB for a client that does not read.
#[cfg(target_os = "linux")]
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// Resolves the host to the addresses to listen on.
pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, StartError> {
    let addresses = (host, port).to_socket_addrs().map_err(|_| {
        StartError::Setting(
            "HOST (--host) cannot be resolved; set it to an address of this machine, such as 127.0.0.1".into(),
        )
    })?;
    Ok(addresses.collect())
}

/// Listens on the first of the addresses that is free.
pub(super) fn listen(addresses: &[SocketAddr]) -> Result<TcpListener, StartError> {
    let mut failures = Vec::new();
    for address in addresses {
        match bind(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(StartError::Environment(format!(
        "cannot listen on {}; set HOST and PORT to a free address",
        failures.join(", ")
    )))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Lets a restarted service bind while connections of the previous process are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Accepted connections inherit this option.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Drops new connection attempts, but keeps the connections that wait to be accepted; closing the socket would reset
/// those.
///
/// A dropped client gets no reply and retries a second later. By then the port is closed, or another process listens.
#[cfg(target_os = "linux")]
pub(super) fn reject_new_connections(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    // Filter of TCP segments to the listening socket: drops those with the SYN flag.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x45, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reject_new_connections(_: &TcpListener) -> io::Result<()> {
    Ok(())
}
