//! A stack with a thread of its own, and how others talk to it.

use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use runtime::event_loop::Waker;
use runtime::time::Instant;

use super::duplex::{Duplex, Spare};
use super::wait::{Answer, Tell, ask, lock};
use super::{Accepting, Ending, Mailbox, SocketLimits, Sockets, TcpListener, UdpChannel, gone};
use crate::application::UdpSocket;
use crate::device::Device;
use crate::driver::{self, Driver};
use crate::stack::Stack;

/// Something for the stack's thread.
pub(super) enum Order {
    /// A connection has something new.
    Look(Arc<Duplex>),
    /// A socket has datagrams to be sent.
    Send(UdpSocket),
    /// Anything else.
    Call(Box<Call>),
}

type Call = dyn FnOnce(Instant, &mut Stack, &mut Sockets) + Send;

/// The way to the stack's thread.
#[derive(Default)]
pub(super) struct Inbox {
    posted: Mutex<Posted>,
    /// Ends its wait.
    waker: OnceLock<Waker>,
}

#[derive(Default)]
struct Posted {
    orders: Vec<Order>,
    /// Nobody reads them any more.
    is_over: bool,
    /// The thread is to end, when there are no connections any more, or after so long.
    ends_within: Option<Duration>,
}

impl Inbox {
    /// Puts an order there; whether anybody will read it.
    fn post(&self, order: Order) -> bool {
        self.put(|orders| orders.push(order))
    }

    /// Puts it before all others. Who lets go of a port may ask for it again at once, by an order that is
    /// there already.
    fn post_first(&self, order: Order) -> bool {
        self.put(|orders| orders.insert(0, order))
    }

    fn put(&self, put: impl FnOnce(&mut Vec<Order>)) -> bool {
        let is_first = {
            let mut posted = lock(&self.posted);
            if posted.is_over {
                return false;
            }
            put(&mut posted.orders);
            posted.orders.len() == 1
        };
        // Who put the first has called, or is about to: it is read by a turn that takes the others as well.
        if is_first {
            self.wake();
        }
        true
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            // Writing to an eventfd of ours does not fail.
            let _ = waker.wake();
        }
    }

    /// The orders, and within what time all is to end. At once, so that all that was asked for before the end
    /// is among them.
    pub(super) fn take(&self) -> (Vec<Order>, Option<Duration>) {
        let mut posted = lock(&self.posted);
        (mem::take(&mut posted.orders), posted.ends_within)
    }

    /// Takes no more, unless there is something; whether it is so.
    fn end_if_empty(&self) -> bool {
        let mut posted = lock(&self.posted);
        posted.is_over |= posted.orders.is_empty();
        posted.is_over
    }

    /// Takes no more.
    pub(super) fn end(&self) -> Vec<Order> {
        let mut posted = lock(&self.posted);
        posted.is_over = true;
        mem::take(&mut posted.orders)
    }

    fn end_within(&self, limit: Duration) {
        let mut posted = lock(&self.posted);
        posted.ends_within = Some(posted.ends_within.map_or(limit, |other| other.min(limit)));
        drop(posted);
        self.wake();
    }
}

/// A stack, for any number of threads and tasks. Clones are the same network; it goes on until the last of
/// them is gone, and the last socket.
#[derive(Clone)]
pub struct Network {
    shared: Arc<NetworkShared>,
}

struct NetworkShared {
    inbox: Arc<Inbox>,
    limits: SocketLimits,
    spare: Arc<Spare>,
    thread: Mutex<Option<JoinHandle<io::Result<bool>>>>,
}

impl Network {
    /// Gives a stack on a device a thread.
    ///
    /// # Errors
    /// If the process has no descriptors or threads left.
    pub fn start<D: Device + Send + 'static>(device: D, stack: Stack) -> io::Result<Network> {
        Network::start_with(device, stack, SocketLimits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub fn start_with<D: Device + Send + 'static>(
        device: D,
        stack: Stack,
        limits: SocketLimits,
    ) -> io::Result<Network> {
        let (network, sockets) = Network::apart(limits);
        let (tell, told) = mpsc::channel();
        let thread = thread::Builder::new().name("netstack".to_owned()).spawn(move || {
            let driver = match Driver::new(device, stack, sockets) {
                Ok(driver) => driver,
                Err(error) => {
                    // Whoever started it waits for that.
                    let _ = tell.send(Err(error));
                    return Ok(true);
                }
            };
            let _ = tell.send(Ok(driver.events().waker()));
            run(driver)
        })?;
        let waker = told.recv().map_err(|_| gone())??;
        let _ = network.shared.inbox.waker.set(waker);
        *lock(&network.shared.thread) = Some(thread);
        Ok(network)
    }

    /// A stack on a TAP device of that name, whose other end, the kernel's, gets the address `kernel` and is
    /// set up. The stack has the address `ours`.
    ///
    /// # Errors
    /// Without the right to make TAP devices, or if the name or the address cannot be had.
    pub fn on_tap(name: &str, kernel: Ipv4Addr, ours: Ipv4Addr, prefix_len: u8) -> io::Result<Network> {
        let (tap, stack) = driver::tap_and_stack(name, kernel, ours, prefix_len)?;
        Network::start(tap, stack)
    }

    /// A network without a thread: for who turns the stack with the other half as its application, and calls
    /// [`Sockets::obey`] in each turn. Nothing ends the waits of such a loop, unless by [`Network::wake_by`].
    pub fn apart(limits: SocketLimits) -> (Network, Sockets) {
        let inbox = Arc::<Inbox>::default();
        let spare = Arc::new(Spare::new(limits.grown_bytes));
        let sockets = Sockets::new(Arc::clone(&inbox), limits, Arc::clone(&spare));
        let shared = NetworkShared { inbox, limits, spare, thread: Mutex::default() };
        (Network { shared: Arc::new(shared) }, sockets)
    }

    /// What ends a wait of who turns the stack, once there is something for it. Counts once.
    pub fn wake_by(&self, waker: Waker) {
        let _ = self.shared.inbox.waker.set(waker);
        self.shared.inbox.wake();
    }

    /// Waits until all connections are over, those of which somebody still has a handle included, but no
    /// longer than `limit`; then the thread ends, and what is left is cut off. Whether nothing was. Listeners
    /// get no more connections meanwhile.
    ///
    /// # Errors
    /// Why the thread has ended before: the device is of no use any more. [`io::ErrorKind::NotConnected`] if
    /// another has called this, or there is no thread.
    pub fn finish(self, limit: Duration) -> io::Result<bool> {
        let thread = lock(&self.shared.thread).take().ok_or_else(gone)?;
        self.shared.inbox.end_within(limit);
        thread.join().map_err(|_| io::Error::other("the network's thread has panicked"))?
    }

    /// Has the stack's thread look at a connection, if it needs to.
    pub(crate) fn tell(&self, tell: Tell, duplex: &Arc<Duplex>) {
        if tell.is_needed() {
            self.shared.inbox.post(Order::Look(Arc::clone(duplex)));
        }
    }

    pub(super) fn tell_of_datagrams(&self, tell: Tell, socket: UdpSocket) {
        if tell.is_needed() {
            self.shared.inbox.post(Order::Send(socket));
        }
    }

    /// Has the stack's thread call `with`, between two turns; its answer.
    fn ask<T: Send + 'static>(
        &self,
        with: impl FnOnce(Instant, &mut Stack, &mut Sockets) -> T + Send + 'static,
    ) -> Answer<T> {
        let (promised, answer) = ask();
        let call = move |now, stack: &mut Stack, sockets: &mut Sockets| {
            if promised.is_wanted() {
                promised.keep(with(now, stack, sockets));
            }
        };
        // An order that nobody reads is dropped, and its promise with it.
        self.shared.inbox.post(Order::Call(Box::new(call)));
        answer
    }

    /// The same, with the stack alone.
    pub(crate) fn ask_stack<T: Send + 'static>(
        &self,
        with: impl FnOnce(&mut Stack) -> T + Send + 'static,
    ) -> Answer<T> {
        self.ask(|_, stack, _| with(stack))
    }

    /// The listener is made where it begins, so that an answer that nobody waits for any more ends it again.
    pub(crate) fn listen(&self, port: u16) -> Answer<io::Result<TcpListener>> {
        let network = self.clone();
        self.ask(move |_, stack, sockets| {
            if sockets.until.is_some() {
                return Err(gone());
            }
            stack.listen(port)?;
            let accepting = Arc::new(Accepting::new(sockets.limits.backlog));
            sockets.listeners.insert(port, Arc::clone(&accepting));
            Ok(TcpListener::new(network, accepting, port))
        })
    }

    /// Ends a listener, and the connections that nobody has accepted.
    pub(super) fn unlisten(&self, port: u16) {
        let call = move |now, stack: &mut Stack, sockets: &mut Sockets| {
            stack.unlisten(port);
            let Some(accepting) = sockets.listeners.remove(&port) else { return };
            for duplex in accepting.end() {
                let _ = duplex.abort();
                sockets.look(now, &duplex, stack);
            }
        };
        self.shared.inbox.post_first(Order::Call(Box::new(call)));
    }

    /// Begins to open a connection: how it goes is seen at the connection itself.
    pub(crate) fn open(&self, remote: SocketAddr) -> Arc<Duplex> {
        let duplex = Arc::new(Duplex::new(self.shared.limits, Arc::clone(&self.shared.spare)));
        let mut opening = Opening(Some(Arc::clone(&duplex)));
        let call = move |now, stack: &mut Stack, sockets: &mut Sockets| {
            if sockets.until.is_some() {
                return;
            }
            let Some(duplex) = opening.0.take() else { return };
            let result =
                stack.connect(now, None, remote, |pcb| sockets.keep(pcb, Arc::clone(&duplex), false));
            match result {
                // It may have been given up before it began.
                Ok(_) => sockets.look(now, &duplex, stack),
                Err(error) => duplex.end(Ending::NotBegun(error)),
            }
        };
        self.shared.inbox.post(Order::Call(Box::new(call)));
        duplex
    }

    /// Made where it begins, as a listener is.
    pub(crate) fn bind_udp(
        &self,
        port: Option<u16>,
        remote: Option<SocketAddr>,
    ) -> Answer<io::Result<UdpChannel>> {
        let network = self.clone();
        self.ask(move |_, stack, sockets| {
            if sockets.until.is_some() {
                return Err(gone());
            }
            let socket = match remote {
                Some(remote) => stack.connect_udp(port, remote)?,
                None => stack.bind_udp(port)?,
            };
            let mailbox = Arc::new(Mailbox::new(sockets.limits));
            sockets.mailboxes.insert(socket, Arc::clone(&mailbox));
            Ok(UdpChannel::new(network, socket, mailbox))
        })
    }

    /// Closes a socket. What it has written goes out.
    pub(super) fn close_udp(&self, socket: UdpSocket) {
        let call = move |_, stack: &mut Stack, sockets: &mut Sockets| {
            sockets.has_datagrams_of(socket);
            sockets.send_datagrams(stack);
            sockets.close_udp(stack, socket);
        };
        self.shared.inbox.post_first(Order::Call(Box::new(call)));
    }
}

/// A connection that is about to begin, until it does: an order that nobody reads ends it, or it would wait
/// for ever.
struct Opening(Option<Arc<Duplex>>);

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(duplex) = self.0.take() {
            duplex.end(Ending::Gone);
        }
    }
}

impl Drop for NetworkShared {
    fn drop(&mut self) {
        self.inbox.end_within(self.limits.linger);
    }
}

/// The thread. Whether nothing was left: no connection, and nothing to send.
fn run<D: Device>(mut driver: Driver<D, Sockets>) -> io::Result<bool> {
    loop {
        let goes_on = driver.app().has_more(driver.stack());
        let deadline = if goes_on { Some(Instant::ZERO) } else { driver.app().until };
        driver.wait(deadline)?;
        let now = driver.now();
        let (stack, sockets) = driver.parts();
        sockets.obey(now, stack);
        driver.work()?;
        let Some(until) = driver.app().until else { continue };
        let has_more = driver.has_more() || driver.waits_for_room() || driver.stack().has_queued();
        let is_over = !has_more && driver.app().is_idle() && driver.app().inbox.end_if_empty();
        if is_over || now >= until {
            return Ok(is_over);
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}
