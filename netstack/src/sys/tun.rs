//! TAP devices: Ethernet interfaces of the kernel whose other end is a file descriptor (Linux
//! `Documentation/networking/tuntap.rst`), here always with a virtio-net header before each frame.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Where TAP devices are made.
pub const DEVICE_FILE: &str = "/dev/net/tun";

/// Bytes of the virtio-net header before each frame (`struct virtio_net_hdr`, without `num_buffers`).
pub const VNET_HEADER_LEN: usize = 10;

/// Super-datagrams of UDP over IPv4 and IPv6 (`linux/if_tun.h`).
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

/// Longest interface name, without the terminating zero.
pub(super) const MAX_NAME_LEN: usize = libc::IFNAMSIZ - 1;

/// An open TAP device. It disappears with its descriptor unless it was made persistent (`ip tuntap add`).
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Creates a TAP device, or attaches to the existing one of that name. Without a name the kernel picks
    /// `tapN`. Non-blocking. Its interface is down, without address.
    ///
    /// # Errors
    /// Needs `CAP_NET_ADMIN` in the network namespace (or ownership of a persistent device), and leave to
    /// open [`DEVICE_FILE`]. [`io::ErrorKind::InvalidInput`] for a name over 15 bytes.
    pub fn open(name: Option<&str>) -> io::Result<Tap> {
        Tap::open_with(name, 0)
    }

    /// The same as one of several queues of the device: the kernel sends the frames of a flow by the queue by
    /// which it last got one of it, and others by a hash.
    ///
    /// # Errors
    /// As [`Tap::open`]; `EINVAL` if the device is there and was made for one queue only.
    pub fn open_queue(name: Option<&str>) -> io::Result<Tap> {
        Tap::open_with(name, libc::IFF_MULTI_QUEUE)
    }

    fn open_with(name: Option<&str>, flags: libc::c_int) -> io::Result<Tap> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE_FILE)?;
        let mut request = interface_request(name.unwrap_or("tap%d"))?;
        let flags = flags | libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is; it outlives the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let name = request.ifr_name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        let name = String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?;
        let tap = Tap { file, name };
        let len = VNET_HEADER_LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one `int`, which outlives the call.
        if unsafe { libc::ioctl(tap.file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        tap.set_receive_offload(false)?;
        Ok(tap)
    }

    /// Whether frames from the kernel may come as it has them: TCP super-segments of up to 64 KB, checksums
    /// unfinished, and with kernels that have them (from 6.2 on) super-datagrams of UDP, too: whether those.
    /// What else we may *send* so does not depend on it.
    ///
    /// # Errors
    /// From the kernel; old ones may refuse.
    pub fn set_receive_offload(&self, on: bool) -> io::Result<bool> {
        let features = if on { libc::TUN_F_CSUM | libc::TUN_F_TSO4 } else { 0 };
        if on && self.set_offload(features | TUN_F_USO4 | TUN_F_USO6).is_ok() {
            return Ok(true);
        }
        self.set_offload(features).map(|()| false)
    }

    fn set_offload(&self, features: libc::c_uint) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(features)) }
            < 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file: one read or write a frame, the virtio-net header first.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An `ifreq` for the interface `name`, the rest zero.
pub(super) fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() > MAX_NAME_LEN || name.bytes().any(|b| b == 0 || b == b'/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("bad interface name {name:?}")));
    }
    // SAFETY: `ifreq` is plain old data (integers, pointers and a union of them); all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}
