//! Sockets that connections wait at: our own, and those that another has made.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use runtime::sockets;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use super::MAX_BACKLOG;
use crate::service::Options;

/// Whoever connects and asks nothing for so many seconds is taken then: Linux counts in repeated SYN-ACKs.
const DEFER_TIME: Duration = Duration::from_secs(1);

/// A bound, listening socket. Connections wait in its queue until a loop takes them.
///
/// # Errors
/// Whatever the system says: address in use, no permission.
pub fn listener(addr: SocketAddr, shared_port: bool, options: &Options) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    // Responses leave whole anyhow; waiting for more would only delay the last segment. Connections inherit
    // it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    // A pointer into the stream, not a byte beside it (RFC 6093 section 3.1), as on our own TCP/IP.
    // Inherited, too.
    sockopt::set_socket_oobinline(&socket, true)?;
    bind(&socket, &addr)?;
    if options.deferred_accept {
        sockets::defer_accept(&socket, DEFER_TIME)?;
    }
    listen(&socket, MAX_BACKLOG)?;
    if options.packet_merging {
        // What has just come is acknowledged by the answer, from a connection's first request on. Inherited
        // if said after `listen`, which forgets what was said before.
        sockopt::set_tcp_quickack(&socket, false)?;
    }
    Ok(socket)
}

/// A listening socket that another has made, as one of ours: it may be of the file system.
///
/// # Errors
/// If it does not listen, or whatever the system says.
pub fn adopt(socket: impl AsFd, options: &Options) -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(socket, 0)?;
    if sockopt::socket_type(&socket)? != SocketType::STREAM || !sockopt::socket_acceptconn(&socket)? {
        let why = "the socket that was handed over does not listen for connections (ListenStream=)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    if SocketAddr::try_from(getsockname(&socket)?).is_ok() {
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_socket_oobinline(&socket, true)?;
        if options.deferred_accept {
            sockets::defer_accept(&socket, DEFER_TIME)?;
        }
        sockopt::set_tcp_quickack(&socket, !options.packet_merging)?;
    }
    Ok(socket)
}

/// The address that a socket is bound to; 0.0.0.0:0 of one in the file system.
///
/// # Errors
/// Whatever the system says.
pub fn local_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    Ok(SocketAddr::try_from(getsockname(socket)?).unwrap_or(nowhere))
}
