//! Handlers in the kernel: one XDP program on the interface, before its frames cost anybody anything.
//!
//! It sees what arrives from the interface's wire. A TAP device's wire is its descriptor: what we write there arrives in the
//! kernel, and what the kernel sends comes to us, past no XDP program. So this is for interfaces that are heard by AF_PACKET,
//! whose sockets are behind the program.

use std::io;

use pipe_lib::handler::{Handler, HandlerError, Verdict, XdpProgram};

use super::{HandlerStats, NamedHandler};
use crate::device::sys::bpf::{CounterMap, XdpCode, XdpLink};
use crate::device::sys::link;

/// Why handlers are not in the kernel.
#[derive(Debug)]
pub enum XdpError {
    /// One does what eBPF cannot.
    Handler(HandlerError),
    /// The kernel does not take the program, or the interface.
    Kernel(io::Error),
}

impl std::fmt::Display for XdpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            XdpError::Handler(error) => error.fmt(f),
            XdpError::Kernel(error) => write!(f, "the kernel does not take the XDP program: {error}"),
        }
    }
}

impl core::error::Error for XdpError {}

/// Handlers as a program that the kernel has verified, and what they count.
#[derive(Debug)]
pub struct XdpFilter {
    code: XdpCode,
    map: CounterMap,
    empty: Vec<HandlerStats>,
    link: Option<XdpLink>,
}

impl XdpFilter {
    /// Compiles and loads them, in the order in which they are asked; nothing is attached yet.
    ///
    /// # Errors
    /// Without `CAP_BPF` and `CAP_NET_ADMIN`, or if a handler takes what eBPF does not have.
    pub fn new(list: &[NamedHandler]) -> Result<XdpFilter, XdpError> {
        let handlers: Vec<&Handler> = list.iter().map(|named| &named.handler).collect();
        let program = XdpProgram::new(&handlers).map_err(XdpError::Handler)?;
        let map = CounterMap::new(program.map_bytes() / 8).map_err(XdpError::Kernel)?;
        let code = XdpCode::load(&program.with_map(map.descriptor())).map_err(XdpError::Kernel)?;
        Ok(XdpFilter { code, map, empty: list.iter().map(HandlerStats::new).collect(), link: None })
    }

    /// Lets the interface's frames through the program, for as long as this lives, in the kernel's generic hook. (Drivers
    /// that run XDP themselves may want more room in their buffers than they have, and AF_PACKET would see frames later.)
    ///
    /// # Errors
    /// If there is no such interface, or another program is attached to it.
    pub fn attach(&mut self, interface: &str) -> Result<(), XdpError> {
        let index = link::get(interface).map_err(XdpError::Kernel)?.index;
        self.link = Some(self.code.attach(index, false).map_err(XdpError::Kernel)?);
        Ok(())
    }

    /// What each has counted.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn stats(&self) -> io::Result<Vec<HandlerStats>> {
        let mut values = self.map.read()?.into_iter();
        let mut all = self.empty.clone();
        for stats in &mut all {
            let counters = stats.counters.iter_mut().map(|(_, counter)| counter);
            stats.verdicts.iter_mut().chain(counters).for_each(|to| *to = values.next().unwrap_or_default());
        }
        Ok(all)
    }

    /// What the kernel's program says of a frame of 14 bytes or more, run `repeat` times, and nanoseconds a run.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn test(&self, frame: &[u8], repeat: u32) -> io::Result<(Verdict, u32)> {
        let (action, nanoseconds) = self.code.test(frame, repeat)?;
        // XDP_PASS is both "pass" behind the last handler and "kernel".
        let verdict = match action {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::Answer,
            _ => return Err(io::Error::other(format!("the program gave action {action}"))),
        };
        Ok((verdict, nanoseconds))
    }
}
