//! The one system call of waiting that rustix does not wrap for kernels of any age.

use rustix::event::epoll;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// epoll_pwait2(2), which waits to the nanosecond: adds what is ready to `ready`, as far as it has room, and
/// gives how many that are.
///
/// # Errors
/// `NOSYS` before Linux 5.11; otherwise those of epoll_wait(2).
pub(super) fn epoll_wait_exactly(
    epoll: BorrowedFd<'_>,
    ready: &mut Vec<epoll::Event>,
    timeout: Duration,
) -> rustix::io::Result<usize> {
    let room = ready.spare_capacity_mut();
    let timeout = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
    // SAFETY: the kernel writes at most `room.len()` events, of the layout that rustix has them in, to
    // `room`, and reads one timespec; there is no set of signals.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            room.as_mut_ptr(),
            room.len().min(i32::MAX as usize) as libc::c_int,
            &raw const timeout,
            std::ptr::null::<libc::sigset_t>(),
            0usize,
        )
    };
    match usize::try_from(count) {
        Ok(count) => {
            // SAFETY: the kernel has written so many more, and was told of no more room than there is.
            unsafe { ready.set_len(ready.len() + count) };
            Ok(count)
        }
        Err(_) => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::AsFd;
    use std::time::Instant;

    /// As epoll_wait itself, event by event.
    #[test]
    fn tells_the_same_as_epoll_wait() {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let fds: Vec<_> = (0..5).map(|_| eventfd(1, EventfdFlags::CLOEXEC).unwrap()).collect();
        for (number, fd) in fds.iter().enumerate() {
            let data = epoll::EventData::new_u64(u64::MAX - number as u64);
            epoll::add(&poll, fd, data, epoll::EventFlags::IN | epoll::EventFlags::OUT).unwrap();
        }
        let mut ready = Vec::with_capacity(3);
        match epoll_wait_exactly(poll.as_fd(), &mut ready, Duration::from_millis(1)) {
            // Before Linux 5.11.
            Err(Errno::NOSYS | Errno::PERM) => return,
            other => assert_eq!(other, Ok(3), "as many as there is room for"),
        }
        for event in &ready {
            let (flags, data) = (event.flags, event.data);
            assert_eq!(flags, epoll::EventFlags::IN | epoll::EventFlags::OUT);
            assert!(data.u64() > u64::MAX - 5);
        }
        let mut ready = Vec::with_capacity(8);
        assert_eq!(epoll_wait_exactly(poll.as_fd(), &mut ready, Duration::ZERO), Ok(5));
    }

    #[test]
    fn an_empty_wait_lasts_as_long_as_it_should() {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut ready = Vec::with_capacity(1);
        let start = Instant::now();
        match epoll_wait_exactly(poll.as_fd(), &mut ready, Duration::from_micros(1_500)) {
            Err(Errno::NOSYS | Errno::PERM) => {}
            other => assert!(other == Ok(0) && start.elapsed() >= Duration::from_micros(1_500)),
        }
        assert!(ready.is_empty());
        let not_epoll = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let error = epoll_wait_exactly(not_epoll.as_fd(), &mut ready, Duration::ZERO).unwrap_err();
        assert!(matches!(error, Errno::INVAL | Errno::NOSYS | Errno::PERM));
    }
}
