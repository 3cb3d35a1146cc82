//! A stack on a device, turn by turn: what stands between the sans-IO core and a thread that serves.
//!
//! ```text
//!   wait   until a frame, a timer, or a descriptor of the owner's; reads the clock
//!   work   a batch of frames in, timers that are due, and out what there is to send while the device has room
//! ```
//!
//! [`Driver::run`] does both for ever, [`Driver::turn`] once; an owner with descriptors of its own, or with
//! things to do between the two, calls [`Driver::wait`] and [`Driver::work`]. Work is cut into batches, so
//! that neither direction starves the other or the owner; a turn that left something undone makes the next
//! wait only look.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;

use pipe_lib::handler::Verdict;
use runtime::event_loop::EventLoop;
use runtime::poller::{Event, Interest, Token, Trigger};
use runtime::time::Instant;

use crate::application::Application;
use crate::device::tap::TapDevice;
use crate::device::{Device, TransmitError};
use crate::handler::Handlers;
use crate::sharing::Sharing;
use crate::stack::{AddressDetection, Config, Stack};
use crate::sys::link;
use crate::transmission::{Offload, Payload, RxChecksum, Transmission};

/// Frames taken in before what they caused is sent.
const RECEIVE_BATCH: usize = 64;

/// What a frame counts there; one that a handler has done with counts 1. A flood that is dropped must not
/// fill the device's queue while there is much to send.
const FRAME_WORK: usize = 8;

/// Transmissions before arrivals are looked at again, and bytes in them: of super-segments that is a
/// millisecond, in which a flood must not fill the device's queue.
const TRANSMIT_BATCH: usize = 256;
const TRANSMIT_BYTES: usize = 1 << 20;

/// The token of the device's descriptor: not for the owner's.
pub const DEVICE: Token = Token(u64::MAX - 1);

/// The token of what other drivers pass on, likewise.
pub const PASSED: Token = Token(u64::MAX - 2);

/// The usual configuration of a stack on `device`, with a secret from the system's random source. Its address
/// is announced.
///
/// # Errors
/// If the system has no random bytes.
pub fn config(device: &impl Device, addr: Ipv4Addr, prefix_len: u8) -> io::Result<Config> {
    let mut secret = [0; 16];
    rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty())?;
    let mut config = Config::new(device.hardware_addr(), addr, prefix_len, secret);
    config.mtu = device.mtu();
    config.address_detection = AddressDetection::Announce;
    Ok(config)
}

/// A driver on a TAP device of that name, whose other end, the kernel's, gets the address `kernel` and is set
/// up. The stack has the address `ours` and listens nowhere yet.
///
/// # Errors
/// Without the right to make TAP devices, or if the name or the address cannot be had.
pub fn on_tap<A: Application>(
    name: &str,
    kernel: Ipv4Addr,
    ours: Ipv4Addr,
    prefix_len: u8,
    app: A,
) -> io::Result<Driver<TapDevice, A>> {
    let (tap, stack) = tap_and_stack(name, kernel, ours, prefix_len)?;
    Driver::new(tap, stack, app)
}

/// Both of them, apart.
pub(crate) fn tap_and_stack(
    name: &str,
    kernel: Ipv4Addr,
    ours: Ipv4Addr,
    prefix_len: u8,
) -> io::Result<(TapDevice, Stack)> {
    let tap = TapDevice::open(Some(name), true)?;
    match link::add_address(tap.name(), kernel, prefix_len) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    link::set_up(tap.name())?;
    let stack = Stack::new(config(&tap, ours, prefix_len)?);
    Ok((tap, stack))
}

/// A device, the stack on it, the application above, and the event loop under all.
#[derive(Debug)]
pub struct Driver<D, A> {
    device: D,
    stack: Stack,
    app: A,
    events: EventLoop,
    /// What sees frames before the stack.
    handlers: Handlers,
    /// The way to others, where several have the stack's address.
    sharing: Option<Sharing>,
    /// The last turn left something to do.
    more: bool,
    /// The device had no room: its descriptor is polled for that as well.
    waits_for_room: bool,
}

impl<D: Device, A: Application> Driver<D, A> {
    /// Puts them together.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn new(device: D, stack: Stack, app: A) -> io::Result<Driver<D, A>> {
        let events = EventLoop::new()?;
        if let Some(descriptor) = device.descriptor() {
            events.add(&descriptor, DEVICE, Interest::READ, Trigger::Level)?;
        }
        let handlers = Handlers::default();
        let sharing = None;
        Ok(Driver { device, stack, app, events, handlers, sharing, more: false, waits_for_room: false })
    }

    /// Lets these see each frame before the stack does.
    pub fn set_handlers(&mut self, handlers: Handlers) {
        self.handlers = handlers;
    }

    /// Lets this driver have the flows of that part, and others theirs; its stack has been made with the same
    /// ([`Config::share`]).
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn share(&mut self, sharing: Sharing) -> io::Result<()> {
        self.events.add(&sharing.descriptor(), PASSED, Interest::READ, Trigger::Level)?;
        self.sharing = Some(sharing);
        Ok(())
    }

    /// Turns for ever.
    ///
    /// # Errors
    /// As [`Driver::turn`].
    pub fn run(&mut self) -> io::Result<Infallible> {
        loop {
            self.turn(None)?;
        }
    }

    /// Waits, not beyond `deadline`, and works.
    ///
    /// # Errors
    /// If the device is of no use any more, or waiting fails.
    pub fn turn(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.wait(deadline)?;
        self.work()
    }

    /// Waits for a frame, a timer, `deadline` or one of the owner's descriptors ([`Driver::events`]). What is
    /// ready of these; the device's event, [`DEVICE`], may be among them.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<&[Event]> {
        let until = if self.more {
            Some(Instant::ZERO)
        } else {
            [self.stack.poll_timeout(), self.device.next_arrival(), deadline].into_iter().flatten().min()
        };
        self.events.turn(until)
    }

    /// Does what there is to do now, a batch of each kind.
    ///
    /// # Errors
    /// If the device is of no use any more.
    pub fn work(&mut self) -> io::Result<()> {
        let now = self.events.now();
        self.more = self.receive(now)?;
        self.pass_strays();
        if self.stack.poll_timeout().is_some_and(|due| due <= now) {
            self.stack.handle_timeout(now, &mut self.app);
        }
        self.more |= self.transmit(now)?;
        Ok(())
    }

    /// Takes in a batch; whether there may be more.
    fn receive(&mut self, now: Instant) -> io::Result<bool> {
        // Nobody answers for an address that may not be ours.
        let asks = !self.handlers.is_empty() && self.stack.may_use_address();
        let steers = self.handlers.steer();
        let mut work = 0;
        // The device has its half of a batch, however much others pass on.
        let mut from_others = 0;
        while work < RECEIVE_BATCH * FRAME_WORK {
            if from_others < RECEIVE_BATCH / 2
                && let Some(frame) = self.sharing.as_mut().and_then(Sharing::next)
            {
                self.stack.handle_frame(now, &frame.bytes, frame.checksum, &mut self.app);
                work += FRAME_WORK;
                from_others += 1;
                continue;
            }
            // What others have passed on and is taken rings no more.
            let Some(frame) = self.device.receive(now)? else { return Ok(from_others >= RECEIVE_BATCH / 2) };
            let verdict = if asks { self.handlers.arrived(frame.bytes) } else { Verdict::Pass };
            match verdict {
                Verdict::Pass => {
                    let sharing = self.sharing.as_mut();
                    let keeps = sharing.is_none_or(|sharing| {
                        if steers && is_report(frame.bytes) {
                            sharing.tell_all(frame.bytes, frame.checksum);
                            return true;
                        }
                        sharing.keeps(frame.bytes, frame.checksum)
                    });
                    if keeps {
                        self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.app);
                    }
                }
                Verdict::Drop | Verdict::Kernel => {}
                Verdict::Answer => self.answer(now)?,
                Verdict::Steer => {
                    let core = self.handlers.core();
                    let sharing = self.sharing.as_mut();
                    if !sharing.is_some_and(|sharing| sharing.pass(core, frame.bytes, frame.checksum)) {
                        self.stack.handle_frame(now, frame.bytes, frame.checksum, &mut self.app);
                    }
                }
            }
            let is_over = matches!(verdict, Verdict::Drop | Verdict::Kernel);
            work += if is_over { 1 } else { FRAME_WORK };
        }
        Ok(true)
    }

    /// Gives others what was put together here and is theirs.
    fn pass_strays(&mut self) {
        let Some(sharing) = &mut self.sharing else { return };
        while let Some(frame) = self.stack.next_stray() {
            sharing.keeps(&frame, RxChecksum::Unknown);
        }
        self.stack.count_passed_on(sharing.passed());
    }

    /// Sends a handler's answer, if there is room: who asked will ask again.
    fn answer(&mut self, now: Instant) -> io::Result<()> {
        if !self.device.can_transmit() {
            return Ok(());
        }
        let transmission = Transmission {
            headers: self.handlers.answer(),
            payload: Payload::NONE,
            payload_len: 0,
            tcp_start: None,
            offload: Offload::default(),
        };
        match self.device.transmit(now, &transmission) {
            Err(TransmitError::Device(error)) => Err(error),
            Ok(()) | Err(TransmitError::PayloadUnreadable) => Ok(()),
        }
    }

    /// Sends what there is to send; whether there may be more that the device has room for.
    fn transmit(&mut self, now: Instant) -> io::Result<bool> {
        let capabilities = self.device.capabilities();
        let (mut more, mut has_room) = (true, true);
        let mut bytes = 0;
        for _ in 0..TRANSMIT_BATCH {
            if bytes >= TRANSMIT_BYTES {
                break;
            }
            has_room = self.device.can_transmit();
            if !has_room {
                break;
            }
            let device = &mut self.device;
            let transmit = |transmission: &Transmission<'_>| {
                bytes += transmission.len();
                device.transmit(now, transmission)
            };
            match self.stack.poll_transmit(now, &capabilities, &mut self.app, transmit) {
                None => {
                    more = false;
                    break;
                }
                Some(Ok(())) => {}
                Some(Err(TransmitError::PayloadUnreadable)) => {
                    self.stack.payload_unreadable(now, &mut self.app);
                }
                Some(Err(TransmitError::Device(error))) => return Err(error),
            }
        }
        self.device.flush(now)?;
        if has_room == self.waits_for_room {
            self.waits_for_room = !has_room;
            let interest = if has_room { Interest::READ } else { Interest::BOTH };
            if let Some(descriptor) = self.device.descriptor() {
                self.events.modify(&descriptor, DEVICE, interest, Trigger::Level)?;
            }
        }
        Ok(more && has_room)
    }

    /// What sees frames before the stack.
    pub fn handlers(&self) -> &Handlers {
        &self.handlers
    }

    /// Whether the last turn left something undone that could be done at once.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Whether the device had no room for what there may be to send.
    pub fn waits_for_room(&self) -> bool {
        self.waits_for_room
    }

    /// The time of the last turn.
    pub fn now(&self) -> Instant {
        self.events.now()
    }

    /// The event loop, to wait for descriptors of the owner's, or to be woken by another thread.
    pub fn events(&self) -> &EventLoop {
        &self.events
    }

    /// The stack and the application above it, side by side, for what needs both: to connect, to wake, to
    /// abort.
    pub fn parts(&mut self) -> (&mut Stack, &mut A) {
        (&mut self.stack, &mut self.app)
    }

    /// The application.
    pub fn app(&self) -> &A {
        &self.app
    }

    /// The application.
    pub fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The stack.
    pub fn stack_mut(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Takes everything apart again. Connections that stand are not told.
    pub fn into_parts(self) -> (D, Stack, A) {
        (self.device, self.stack, self.app)
    }
}

/// Whether a frame is a report of ICMP: what it is about may be at another core than its ports say, if it was
/// steered.
fn is_report(frame: &[u8]) -> bool {
    let Some(&first) = frame.get(14) else { return false };
    let kind = frame.get(14 + 4 * usize::from(first & 15)).copied();
    frame.get(12..14) == Some(&[8, 0][..])
        && frame.get(23) == Some(&1)
        && kind.is_some_and(|kind| matches!(kind, 3 | 4 | 11 | 12))
}
