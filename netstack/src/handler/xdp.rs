//! Handlers in the kernel: one XDP program on the interface, before its frames cost anybody anything.
//!
//! It sees what arrives from the interface's wire. A TAP device's wire is its descriptor: what we write there
//! arrives in the kernel, and what the kernel sends comes to us, past no XDP program. So this is for
//! interfaces that are heard by AF_PACKET, whose sockets are behind the program, and by AF_XDP, whose sockets
//! the program itself gives frames to: then the first handler is the packet filter `ours`, and the kernel
//! keeps what is not for us.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use pipe_lib::handler::{Handler, HandlerError, Verdict, XdpProgram};

use super::{Binding, HandlerStats, LoadError, NamedHandler, load};
use crate::sys::bpf::{CounterMap, SocketMap, XdpCode, XdpLink};
use crate::sys::link;

/// Why handlers are not in the kernel.
#[derive(Debug)]
pub enum XdpError {
    /// There is no such handler.
    Load(LoadError),
    /// One does what eBPF cannot.
    Handler(HandlerError),
    /// The kernel does not take the program, or the interface.
    Kernel(io::Error),
}

impl std::fmt::Display for XdpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            XdpError::Load(error) => error.fmt(f),
            XdpError::Handler(error) => error.fmt(f),
            XdpError::Kernel(error) => write!(f, "the kernel does not take the XDP program: {error}"),
        }
    }
}

impl core::error::Error for XdpError {}

/// Where on an interface a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpHook {
    /// In its driver, before the kernel makes anything of a frame.
    Driver,
    /// In the kernel, behind any driver.
    Generic,
}

/// Handlers as a program that the kernel has verified, and what they count.
#[derive(Debug)]
pub struct XdpFilter {
    code: XdpCode,
    map: CounterMap,
    sockets: Option<SocketMap>,
    /// A driver may give it frames in pieces.
    pieces: bool,
    /// Some handler answers.
    answers: bool,
    empty: Vec<HandlerStats>,
    link: Option<(XdpLink, XdpHook)>,
}

impl XdpFilter {
    /// Compiles and loads them, in the order in which they are asked; nothing is attached yet.
    ///
    /// # Errors
    /// Without `CAP_BPF` and `CAP_NET_ADMIN`, or if a handler takes what eBPF does not have.
    pub fn new(list: &[NamedHandler]) -> Result<XdpFilter, XdpError> {
        XdpFilter::with(list, None)
    }

    /// The packet filter of these addresses, which leaves what is for others to the kernel, and behind it the
    /// same; but what all of them pass goes to the AF_XDP socket of the frame's queue, of so many.
    ///
    /// # Errors
    /// As of [`XdpFilter::new`].
    pub fn to_sockets(
        addr: Ipv4Addr,
        addr6: Option<Ipv6Addr>,
        list: &[NamedHandler],
        queues: u32,
    ) -> Result<XdpFilter, XdpError> {
        let bits = addr6.map_or(0, Ipv6Addr::to_bits);
        let bindings = [
            Binding { name: "addr", value: addr.to_bits().into() },
            Binding { name: "addr6_hi", value: (bits >> 64) as u64 },
            Binding { name: "addr6_lo", value: bits as u64 },
        ];
        let mut all = vec![load("ours", &bindings).map_err(XdpError::Load)?];
        all.extend_from_slice(list);
        XdpFilter::with(&all, Some(SocketMap::new(queues).map_err(XdpError::Kernel)?))
    }

    fn with(list: &[NamedHandler], sockets: Option<SocketMap>) -> Result<XdpFilter, XdpError> {
        let handlers: Vec<&Handler> = list.iter().map(|named| &named.handler).collect();
        let answers = handlers.iter().any(|handler| handler.answers());
        let Some(sockets) = sockets else {
            let program = XdpProgram::new(&handlers).map_err(XdpError::Handler)?;
            let (code, map) = loaded(&program, 0, XdpCode::load).map_err(XdpError::Kernel)?;
            return Ok(XdpFilter::of(list, code, map, answers));
        };
        let load = |pieces: bool| {
            let program = XdpProgram::to_sockets(&handlers, pieces).map_err(XdpError::Handler)?;
            let code = if pieces { XdpCode::load_for_pieces } else { XdpCode::load };
            loaded(&program, sockets.descriptor(), code).map_err(XdpError::Kernel)
        };
        let (pieces, loading) = match load(!answers) {
            // An older kernel knows no such programs; if it was something else, it is met again.
            Err(XdpError::Kernel(error)) if !answers && is_refusal(&error) => (false, load(false)),
            loading => (!answers, loading),
        };
        let (code, map) = loading?;
        Ok(XdpFilter { sockets: Some(sockets), pieces, ..XdpFilter::of(list, code, map, answers) })
    }

    fn of(list: &[NamedHandler], code: XdpCode, map: CounterMap, answers: bool) -> XdpFilter {
        let empty = list.iter().map(HandlerStats::new).collect();
        XdpFilter { code, map, sockets: None, pieces: false, answers, empty, link: None }
    }

    /// Lets the interface's frames through the program, for as long as this lives, in the kernel's generic
    /// hook. (Drivers that run XDP themselves may want more room in their buffers than they have, and
    /// AF_PACKET would see frames later.)
    ///
    /// # Errors
    /// If there is no such interface, or another program is attached to it.
    pub fn attach(&mut self, interface: &str) -> Result<(), XdpError> {
        self.attach_to(interface, XdpHook::Generic).map_err(XdpError::Kernel)
    }

    /// The same in the interface's driver, and in the generic hook where the driver does not take the
    /// program; and where it is that of a veth pair and a handler answers: it hands answers over only while
    /// its other end has a program, too.
    ///
    /// # Errors
    /// If there is no such interface, or another program is attached to it.
    pub fn attach_first(&mut self, interface: &str) -> Result<XdpHook, XdpError> {
        let keeps_answers = self.answers && link::driver(interface).is_ok_and(|driver| driver == "veth");
        let first = if keeps_answers { XdpHook::Generic } else { XdpHook::Driver };
        let attached = match self.attach_to(interface, first) {
            Ok(()) => Ok(first),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(error),
            Err(_) => self.attach_to(interface, XdpHook::Generic).map(|()| XdpHook::Generic),
        };
        attached.map_err(XdpError::Kernel)
    }

    /// The same in one of the hooks.
    ///
    /// # Errors
    /// If there is no such interface, another program is attached to it, or its driver takes no programs, or
    /// not this one at its MTU.
    pub fn attach_to(&mut self, interface: &str, hook: XdpHook) -> io::Result<()> {
        let index = link::get(interface)?.index;
        self.link = Some((self.code.attach(index, hook == XdpHook::Driver)?, hook));
        Ok(())
    }

    /// Where the program runs, if it does.
    pub fn hook(&self) -> Option<XdpHook> {
        self.link.as_ref().map(|(_, hook)| *hook)
    }

    /// The sockets that it gives frames to, if it is such a one.
    pub fn sockets(&self) -> Option<&SocketMap> {
        self.sockets.as_ref()
    }

    /// Whether a driver may give it frames in pieces. (In the generic hook older kernels put them together
    /// first.)
    pub fn takes_pieces(&self) -> bool {
        self.pieces
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

    /// What the kernel's program says of a frame of 14 bytes or more, run `repeat` times, and nanoseconds a
    /// run.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn test(&self, frame: &[u8], repeat: u32) -> io::Result<(Verdict, u32)> {
        let (action, nanoseconds) = self.code.test(frame, repeat)?;
        Ok((self.verdict(action)?, nanoseconds))
    }

    /// The same once, and what became of the frame: the answer, if it is answered.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn test_answer(&self, frame: &[u8]) -> io::Result<(Verdict, Vec<u8>)> {
        let (action, changed) = self.code.test_change(frame)?;
        Ok((self.verdict(action)?, changed))
    }

    fn verdict(&self, action: u32) -> io::Result<Verdict> {
        // XDP_PASS is both "pass" behind the last handler, without a socket, and "kernel".
        match action {
            1 => Ok(Verdict::Drop),
            2 if self.sockets.is_some() => Ok(Verdict::Kernel),
            2 => Ok(Verdict::Pass),
            3 => Ok(Verdict::Answer),
            // XDP_REDIRECT: what passes all goes to a socket.
            4 if self.sockets.is_some() => Ok(Verdict::Pass),
            _ => Err(io::Error::other(format!("the program gave action {action}"))),
        }
    }
}

/// The verifier, or the call itself, does not take the program.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
}

/// A program in the kernel, with its counters.
fn loaded(
    program: &XdpProgram,
    sockets: i32,
    load: impl FnOnce(&[u8]) -> io::Result<XdpCode>,
) -> io::Result<(XdpCode, CounterMap)> {
    let map = CounterMap::new(program.map_bytes() / 8)?;
    Ok((load(&program.with_maps(map.descriptor(), sockets))?, map))
}
