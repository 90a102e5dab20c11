//! The listening socket: how it is taken, and how it is given up without losing anybody.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
};

use socket2::{Domain, SockRef, Socket, Type};

use super::StartError;

/// ConnectionCounters that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Bytes of responses that the system keeps for a connection, besides those that are on their way. It would
/// keep some MiB for a client that does not take them.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 64 * 1024;

pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, StartError> {
    let addresses = (host, port).to_socket_addrs().map_err(|_| {
        StartError::Setting(
            "HOST (--host) is not an address of this machine; give one such as 127.0.0.1 or 0.0.0.0".into(),
        )
    })?;
    Ok(addresses.collect())
}

/// Takes the first of the addresses that can be had.
pub(super) fn listen(addresses: &[SocketAddr]) -> Result<TcpListener, StartError> {
    let mut failures = Vec::new();
    for address in addresses {
        match bind(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(StartError::Environment(format!(
        "cannot listen on {}; set HOST and PORT to an address that is free",
        failures.join(", ")
    )))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart need not wait for the last connections of the one before to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Its connections inherit it.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Lets nobody in who has not knocked yet. Whoever waits to be accepted still is: closing the socket
/// resets them. The others are told nothing, ask again a second later, and find it closed or somebody
/// else there.
#[cfg(target_os = "linux")]
pub(super) fn turn_newcomers_away(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    // On segments that come to the socket itself: drop what has SYN among its flags.
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
pub(super) fn turn_newcomers_away(_: &TcpListener) -> io::Result<()> {
    Ok(())
}
