//! bpf(2): programs that the kernel verifies, maps that they count in, and their attachment to an interface's
//! XDP hook, and to that behind packet sockets (Linux `Documentation/bpf/`, `include/uapi/linux/bpf.h`).
//!
//! Five commands of one system call, on code that `pipe_lib` has made. Crates that wrap it (`aya`,
//! `libbpf-rs`) begin at ELF objects and bring a loader and BTF for those, none of which there is here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const PROG_LOAD: u32 = 5;
const PROG_TEST_RUN: u32 = 10;
const LINK_CREATE: u32 = 28;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const ATTACH_TYPE_TCX_INGRESS: u32 = 46;
const XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `union bpf_attr`, of which each command reads its own first bytes; what is behind them has to be zero.
#[derive(Default)]
struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    fn u32(mut self, value: u32) -> Attributes {
        self.bytes.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Attributes {
        self.bytes.extend(value.to_ne_bytes());
        self
    }

    /// The command's result. Everything that a pointer among the attributes leads to has to be as long as
    /// they say, and writable where the command writes.
    ///
    /// # Safety
    /// That.
    unsafe fn call(&mut self, command: u32) -> io::Result<RawFd> {
        let (pointer, len) = (self.bytes.as_mut_ptr(), self.bytes.len());
        // SAFETY: the attributes are `len` bytes that outlive the call; for what they point to, the caller
        // vouches.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, len) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
    }
}

/// A descriptor that a command gave.
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just given it to us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// A map of one value, which programs and we count in.
#[derive(Debug)]
pub struct CounterMap {
    descriptor: OwnedFd,
    counters: usize,
}

impl CounterMap {
    /// A map of so many counters of 64 bits, at least one.
    ///
    /// # Errors
    /// Needs `CAP_BPF`.
    pub fn new(counters: usize) -> io::Result<CounterMap> {
        let bytes = (8 * counters) as u32;
        let mut attributes = Attributes::default().u32(MAP_TYPE_ARRAY).u32(4).u32(bytes).u32(1);
        // SAFETY: no pointers.
        let descriptor = unsafe { attributes.call(MAP_CREATE) }?;
        Ok(CounterMap { descriptor: owned(descriptor), counters })
    }

    /// For the program.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// What the counters are now.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn read(&self) -> io::Result<Vec<u64>> {
        let key = 0u32;
        let mut values = vec![0u64; self.counters];
        let mut attributes = Attributes::default()
            .u32(self.descriptor() as u32)
            .u32(0)
            .u64((&raw const key) as u64)
            .u64(values.as_mut_ptr() as u64)
            .u64(0);
        // SAFETY: the key is four bytes, and the value as many as the map's, as it was made; both outlive the
        // call.
        unsafe { attributes.call(MAP_LOOKUP_ELEM) }?;
        Ok(values)
    }
}

/// A map of AF_XDP sockets by the queue that they are of, which a program sends frames to.
#[derive(Debug)]
pub struct SocketMap {
    descriptor: OwnedFd,
    queues: u32,
}

impl SocketMap {
    /// A map for so many queues, at least one; there are no sockets in it.
    ///
    /// # Errors
    /// Needs `CAP_BPF`, and a kernel with AF_XDP.
    pub fn new(queues: u32) -> io::Result<SocketMap> {
        let queues = queues.max(1);
        let mut attributes = Attributes::default().u32(MAP_TYPE_XSKMAP).u32(4).u32(4).u32(queues);
        // SAFETY: no pointers.
        let descriptor = unsafe { attributes.call(MAP_CREATE) }?;
        Ok(SocketMap { descriptor: owned(descriptor), queues })
    }

    /// For the program.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Queues that there is room for.
    pub fn queues(&self) -> u32 {
        self.queues
    }

    /// Lets frames of that queue go to that socket, for as long as it is open.
    ///
    /// # Errors
    /// `E2BIG` for a queue beyond [`SocketMap::queues`]; what the kernel says of the socket.
    pub fn insert(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd();
        let mut attributes = Attributes::default()
            .u32(self.descriptor() as u32)
            .u32(0)
            .u64((&raw const queue) as u64)
            .u64((&raw const value) as u64)
            .u64(0);
        // SAFETY: key and value are four bytes each, as the map was made, only read, and outlive the call.
        unsafe { attributes.call(MAP_UPDATE_ELEM) }.map(drop)
    }
}

/// A program that the kernel has verified.
#[derive(Debug)]
pub struct XdpCode {
    descriptor: OwnedFd,
}

/// How much longer a program may make a frame: less than a page.
const MAX_GROWTH: usize = 4096;

/// Bytes of what the verifier may say.
const LOG_BYTES: usize = 1 << 20;

impl XdpCode {
    /// Hands instructions, of 8 bytes each, to the verifier.
    ///
    /// # Errors
    /// Needs `CAP_BPF` and `CAP_NET_ADMIN`; [`io::ErrorKind::InvalidData`] with the end of what the verifier
    /// says, if it refuses.
    pub fn load(code: &[u8]) -> io::Result<XdpCode> {
        Ok(XdpCode { descriptor: load(code, PROG_TYPE_XDP, ATTACH_TYPE_XDP, 0)? })
    }

    /// The same, of a program that knows of frames in pieces, of which it sees the first.
    ///
    /// # Errors
    /// As of [`XdpCode::load`]; `EINVAL` of kernels before 5.18.
    pub fn load_for_pieces(code: &[u8]) -> io::Result<XdpCode> {
        Ok(XdpCode { descriptor: load(code, PROG_TYPE_XDP, ATTACH_TYPE_XDP, XDP_HAS_FRAGS)? })
    }

    /// Runs the program on a frame of 14 bytes or more, as if it had arrived `repeat` times, on a copy: the
    /// action of the last run, and nanoseconds a run.
    ///
    /// # Errors
    /// Whatever the kernel says of the frame.
    pub fn test(&self, frame: &[u8], repeat: u32) -> io::Result<(u32, u32)> {
        let mut changed = Vec::new();
        self.run(frame, repeat, &mut changed)
    }

    /// The same once, and what became of the frame.
    ///
    /// # Errors
    /// Whatever the kernel says of the frame.
    pub fn test_change(&self, frame: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        let mut changed = vec![0; frame.len() + MAX_GROWTH];
        let (action, _) = self.run(frame, 1, &mut changed)?;
        Ok((action, changed))
    }

    fn run(&self, frame: &[u8], repeat: u32, changed: &mut Vec<u8>) -> io::Result<(u32, u32)> {
        run(&self.descriptor, frame, repeat, changed)
    }

    /// Attaches the program to the interface of that index, for as long as what is given lives: where the
    /// driver runs it, or else in the kernel's generic hook, behind the driver.
    ///
    /// # Errors
    /// `EBUSY` where another program is attached; needs `CAP_NET_ADMIN`.
    pub fn attach(&self, interface: u32, driver: bool) -> io::Result<XdpLink> {
        let mode = if driver { XDP_FLAGS_DRV_MODE } else { XDP_FLAGS_SKB_MODE };
        let mut attributes = Attributes::default()
            .u32(self.descriptor.as_raw_fd() as u32)
            .u32(interface)
            .u32(ATTACH_TYPE_XDP)
            .u32(mode);
        // SAFETY: no pointers.
        let descriptor = unsafe { attributes.call(LINK_CREATE) }?;
        Ok(XdpLink { _descriptor: owned(descriptor) })
    }
}

/// An attached program: it is detached when this is dropped, or the process ends.
#[derive(Debug)]
pub struct XdpLink {
    _descriptor: OwnedFd,
}

/// A program for an interface's ingress hook of Linux 6.6 and later (tcx), which the kernel has verified:
/// what arrives passes it behind packet sockets, and before the kernel's own protocols.
#[derive(Debug)]
pub struct IngressCode {
    descriptor: OwnedFd,
}

impl IngressCode {
    /// Hands instructions, of 8 bytes each, to the verifier.
    ///
    /// # Errors
    /// As of [`XdpCode::load`].
    pub fn load(code: &[u8]) -> io::Result<IngressCode> {
        // Older kernels have the type of programs, and no name for this hook.
        Ok(IngressCode { descriptor: load(code, PROG_TYPE_SCHED_CLS, 0, 0)? })
    }

    /// What the program says of a frame of 14 bytes or more.
    ///
    /// # Errors
    /// Whatever the kernel says of the frame.
    pub fn test(&self, frame: &[u8]) -> io::Result<i32> {
        Ok(run(&self.descriptor, frame, 1, &mut Vec::new())?.0 as i32)
    }

    /// Attaches the program to the interface of that index, behind those that are there, for as long as what
    /// is given lives.
    ///
    /// # Errors
    /// Needs `CAP_NET_ADMIN`; `EINVAL` of older kernels.
    pub fn attach(&self, interface: u32) -> io::Result<IngressLink> {
        let mut attributes = Attributes::default()
            .u32(self.descriptor.as_raw_fd() as u32)
            .u32(interface)
            .u32(ATTACH_TYPE_TCX_INGRESS)
            .u32(0);
        // SAFETY: no pointers.
        let descriptor = unsafe { attributes.call(LINK_CREATE) }?;
        Ok(IngressLink { _descriptor: owned(descriptor) })
    }
}

/// An attached program: it is detached when this is dropped, or the process ends.
#[derive(Debug)]
pub struct IngressLink {
    _descriptor: OwnedFd,
}

/// Runs a program `repeat` times on a copy of the frame: what it said last, and nanoseconds a run.
fn run(program: &OwnedFd, frame: &[u8], repeat: u32, changed: &mut Vec<u8>) -> io::Result<(u32, u32)> {
    let changed_at = if changed.is_empty() { 0 } else { changed.as_mut_ptr() as u64 };
    let mut attributes = Attributes::default()
        .u32(program.as_raw_fd() as u32)
        .u32(0)
        .u32(frame.len() as u32)
        .u32(changed.len() as u32)
        .u64(frame.as_ptr() as u64)
        .u64(changed_at)
        .u32(repeat)
        .u32(0);
    // SAFETY: the frame is as long as is said, and only read; `changed` is as long as is said.
    unsafe { attributes.call(PROG_TEST_RUN) }?;
    let field = |at: usize| attributes.bytes[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
    changed.truncate(field(12) as usize);
    Ok((field(4), field(36)))
}

/// A program that the verifier has taken; [`io::ErrorKind::InvalidData`] with the end of what it says, if
/// not.
fn load(code: &[u8], program_type: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    match load_with(code, program_type, attach_type, flags, &mut []) {
        // Once more, to be told why.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) => {
            let mut log = vec![0; LOG_BYTES];
            let Err(error) = load_with(code, program_type, attach_type, flags, &mut log) else {
                return Err(error);
            };
            let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default());
            let end: Vec<&str> = text.lines().rev().take(12).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{error}: {}", end.join("\n"))))
        }
        result => result,
    }
}

fn load_with(
    code: &[u8],
    program_type: u32,
    attach_type: u32,
    flags: u32,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let license = CString::new("MIT OR Apache-2.0").unwrap_or_default();
    let log_pointer = if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 };
    let mut attributes = Attributes::default()
        .u32(program_type)
        .u32((code.len() / 8) as u32)
        .u64(code.as_ptr() as u64)
        .u64(license.as_ptr() as u64)
        .u32(u32::from(!log.is_empty()))
        .u32(log.len() as u32)
        .u64(log_pointer)
        .u32(0)
        .u32(flags)
        // The name, of 16 bytes.
        .u64(u64::from_ne_bytes(*b"cheetah\0"))
        .u64(0)
        .u32(0)
        .u32(attach_type);
    // SAFETY: code, licence and log are as long as is said, and outlive the call.
    let descriptor = unsafe { attributes.call(PROG_LOAD) }?;
    Ok(owned(descriptor))
}
