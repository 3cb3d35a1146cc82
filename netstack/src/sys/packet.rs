//! AF_PACKET sockets (Linux `packet(7)`): frames of an existing interface, beside the kernel's own stack.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::set_int_option;

/// A raw packet socket, bound to nothing and so receiving nothing yet. It will not see frames that this machine sends
/// through the interface, and what it sends skips the queueing discipline.
///
/// # Errors
/// Needs `CAP_NET_RAW` in the network namespace.
pub fn open() -> io::Result<OwnedFd> {
    // Protocol 0: nothing arrives before bind() gives interface and protocol at once, so no frame of another interface
    // slips in between.
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    set_int_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    set_int_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
    Ok(socket)
}

/// Sets the socket's receive and send buffers to about `bytes` each, past the system's limit where privileged.
///
/// # Errors
/// From the kernel.
pub fn set_buffers(socket: &OwnedFd, bytes: usize) -> io::Result<()> {
    let value = i32::try_from(bytes / 2).unwrap_or(i32::MAX);
    for (forced, limited) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        if set_int_option(socket.as_fd(), libc::SOL_SOCKET, forced, value).is_err() {
            set_int_option(socket.as_fd(), libc::SOL_SOCKET, limited, value)?;
        }
    }
    Ok(())
}
