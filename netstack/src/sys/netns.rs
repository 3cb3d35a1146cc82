//! Namespaces: a network of one's own (Linux `network_namespaces(7)`, `user_namespaces(7)`).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::resume_unwind;
use std::thread;

use super::link;

/// A network namespace, held open.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// The calling thread's network namespace.
    ///
    /// # Errors
    /// If `/proc` is not there.
    pub fn current() -> io::Result<Namespace> {
        Ok(Namespace { file: File::open("/proc/thread-self/ns/net")? })
    }

    /// One made by `ip netns add NAME`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn named(name: &str) -> io::Result<Namespace> {
        Ok(Namespace { file: File::open(format!("/run/netns/{name}"))? })
    }

    /// A new, empty one, which goes when its last interface user does. The calling thread stays where it is.
    ///
    /// # Errors
    /// Needs `CAP_SYS_ADMIN` in the user namespace.
    pub fn new() -> io::Result<Namespace> {
        let before = Namespace::current()?;
        unshare(libc::CLONE_NEWNET)?;
        let new = Namespace::current();
        before.enter()?;
        new
    }

    /// Moves the calling thread into the namespace. Sockets opened before stay where they were made.
    ///
    /// # Errors
    /// Needs `CAP_SYS_ADMIN` in the user namespace that owns this network.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: setns takes a descriptor, open here, and a flag; it touches no memory of ours.
        let result = unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` in a thread that has a new namespace with its loopback interface up; threads that it starts
/// are in it, too. A panic of `work` goes on in the caller.
///
/// # Errors
/// As of [`Namespace::new`]: then `work` is not run.
pub fn in_new(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let run = move || {
        Namespace::new()?.enter()?;
        link::set_up("lo")?;
        work();
        Ok(())
    };
    thread::spawn(run).join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Moves the process into a user and network namespace of its own, in which it is root. No privilege is
/// needed where the system allows user namespaces. Only for a process with a single thread, so call it first
/// in `main`; children inherit the place.
///
/// # Errors
/// `EINVAL` with more than one thread; `EPERM` or `ENOSPC` where the system forbids it; from writing the
/// identity maps.
pub fn enter_private() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    // An unprivileged process may map its group only once it has given up setgroups (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))
}

/// Sets the congestion control of the kernel's TCP in the calling thread's network namespace.
///
/// # Errors
/// If the kernel does not have it, or its use is restricted.
pub fn set_congestion_control(name: &str) -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/tcp_congestion_control", name)
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare with namespace flags only changes what the kernel attaches to this thread; no memory is
    // touched.
    let result = unsafe { libc::unshare(flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
