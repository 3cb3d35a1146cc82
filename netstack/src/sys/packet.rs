//! AF_PACKET sockets (Linux `packet(7)`): frames of an existing interface, beside the kernel's own stack.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::set_int_option;

/// A raw packet socket, bound to nothing and so receiving nothing yet. It will not see frames that this
/// machine sends through the interface, and what it sends skips the queueing discipline.
///
/// # Errors
/// Needs `CAP_NET_RAW` in the network namespace.
pub fn open() -> io::Result<OwnedFd> {
    // Protocol 0: nothing arrives before bind() gives interface and protocol at once, so no frame of another
    // interface slips in between.
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

/// Puts a bound packet socket into the group of that number, whose sockets share what arrives: `program`, of
/// classic BPF (code, jumps if true and false, constant), gives each packet to one, by the order in which
/// they came, modulo their number. It begins at the link layer's header or behind it; offsets that the kernel
/// has names for are the same in both.
///
/// # Errors
/// From the kernel: `EINVAL` if it does not take the program, or sockets of that number share in another way.
pub fn join_group(socket: BorrowedFd<'_>, number: u16, program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    /// `PACKET_FANOUT_FLAG_IGNORE_OUTGOING`, which kernels before 6.3 do not know.
    const IGNORE_OUTGOING: u32 = 0x4000;
    let join = |flags: u32| {
        let argument = u32::from(number) | (libc::PACKET_FANOUT_CBPF | flags) << 16;
        set_int_option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, argument as i32)
    };
    join(IGNORE_OUTGOING).or_else(|_| join(0))?;
    set_program(socket, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, program)
}

/// Has the interface with that number take in frames for any group, for as long as the socket is open: an
/// adapter drops those that nobody in the kernel listens to, and of our groups the kernel does not know.
///
/// # Errors
/// From the kernel.
pub fn hear_groups(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface as i32,
        mr_type: libc::PACKET_MR_ALLMULTI as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let len = size_of::<libc::packet_mreq>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw const request).cast());
    // SAFETY: pointer and length describe `request`, which the kernel only reads.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value, len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets a socket receive only what `program`, of classic BPF, keeps; another may take its place later.
///
/// # Errors
/// From the kernel: `EINVAL` if it does not take the program.
pub fn set_filter(socket: BorrowedFd<'_>, program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    set_program(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

fn set_program(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    program: &[(u16, u8, u8, u32)],
) -> io::Result<()> {
    let mut steps: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(steps.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: pointer and length describe `program`, whose own describe `steps`; both outlive the call, which
    // only reads.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const program).cast(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the socket's receive and send buffers to about `bytes` each, past the system's limit where
/// privileged.
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
