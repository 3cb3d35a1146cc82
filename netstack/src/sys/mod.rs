//! What Linux offers to user-level network stacks, wrapped: TAP devices, packet sockets, interfaces,
//! namespaces.
//!
//! The only `unsafe` of the device layer lives here, each block a single system call. Nothing in this folder
//! knows of packets' contents. Everything acts in the calling *thread's* network namespace.
//!
//! To set up a private network without privileges and without calling `ip`:
//!
//! ```no_run
//! use netstack::sys::{link, netns, tun};
//!
//! netns::enter_private()?;                                // user + network namespace; single-threaded programs only
//! netns::set_congestion_control("reno")?;
//! link::set_up("lo")?;
//! let tap = tun::Tap::open(Some("tap0"))?;                // or, where /dev/net/tun may not be opened:
//! // link::create_veth("veth0", "veth1")?; link::set_tx_offload("veth0", false)?;
//! link::add_address(tap.name(), [10, 0, 0, 1].into(), 24)?; // the kernel's side; ours is another address of the /24
//! link::set_up(tap.name())?;
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod bpf;
pub mod link;
pub mod netns;
pub mod packet;
pub mod ring;
pub mod tun;
pub mod xsk;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `setsockopt` of a plain integer.
fn set_int_option(fd: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
