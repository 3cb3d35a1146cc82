//! An option of TCP's sockets that rustix does not wrap.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Of a listening socket: a connection is there to be accepted when its first bytes have come, or else after
/// about `time` (whole seconds, rounded up; Linux counts in repeated SYN-ACKs). TCP_DEFER_ACCEPT in tcp(7).
///
/// # Errors
/// Whatever the system says: not a socket of TCP.
pub fn defer_accept(socket: &impl AsFd, time: Duration) -> io::Result<()> {
    let seconds = time.as_nanos().div_ceil(1_000_000_000).min(i32::MAX as u128) as libc::c_int;
    let (fd, len) = (socket.as_fd().as_raw_fd(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the pointer and length describe `seconds`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, (&raw const seconds).cast(), len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn who_says_nothing_is_not_accepted_yet() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        defer_accept(&listener, Duration::from_secs(60))?;
        listener.set_nonblocking(true)?;
        let silent = TcpStream::connect(listener.local_addr()?)?;
        let mut asking = TcpStream::connect(listener.local_addr()?)?;
        asking.write_all(b"?")?;
        // On the loopback what was written is there when the call returns.
        assert_eq!(listener.accept()?.1, asking.local_addr()?);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(silent);
        let no_socket = std::fs::File::open("/dev/null")?;
        assert!(defer_accept(&no_socket, Duration::ZERO).is_err());
        Ok(())
    }
}
