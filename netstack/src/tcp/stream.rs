//! What TCP asks of the owner of a connection's bytes, and how it says that a connection is over.

use runtime::payload::PayloadSource;
use runtime::time::Instant;

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions were closed by FIN and everything was acknowledged.
    Finished,
    /// The peer sent RST.
    Reset,
    /// An active open was refused: RST in answer to our SYN.
    Refused,
    /// The peer stopped answering: retransmissions, probes or keep-alives were used up (RFC 9293 section
    /// 3.8.3).
    TimedOut,
    /// The application aborted it ([`crate::stack::Stack::abort`], [`Stream::is_aborted`]).
    Aborted,
    /// What was to be sent can be read no more: the file behind a mapping was cut.
    PayloadLost,
    /// Our own address is ours no more ([`crate::dhcp`]).
    AddressLost,
    /// No route, or no answer to ARP, while opening.
    Unreachable,
}

/// One connection's bytes in both directions: what to send (as [`PayloadSource`]), and what to do with what
/// arrives.
///
/// Sending: offset 0 is the first byte after the handshake. When `end()` grows or `is_finished()` turns true
/// inside one of these calls the stack notices by itself; from outside, and when bytes became resident that
/// `pieces` could not give before, call [`crate::stack::Stack::wake`].
pub trait Stream: PayloadSource {
    /// An active open has completed. (For an accepted connection, [`crate::application::Application::accept`]
    /// says so.)
    fn established(&mut self, now: Instant) {
        let _ = now;
    }

    /// In-order bytes from the peer, borrowed from the frame (or from the reassembly buffer once a gap is
    /// filled). Returns how many were taken; the rest counts as not received and will come again. A stream
    /// that takes at least [`Stream::window`] bytes whenever asked never pays for that.
    fn receive(&mut self, now: Instant, bytes: &[u8]) -> usize;

    /// The peer calls what comes urgent, as far as the byte before `bytes` from here: of what
    /// [`Stream::receive`] will be given, so many are urgent, or before what is. They come in line as others
    /// do. Called when nothing urgent was to come, and when it reaches further than was said (RFC 9293
    /// section 3.8.5); nothing is sent so (RFC 6093 section 5).
    fn urgent(&mut self, now: Instant, bytes: u32) {
        let _ = (now, bytes);
    }

    /// Copies `bytes`, which are next in order but may be damaged, to where they would stay, and gives their
    /// sum (RFC 1071, folded, not complemented), made by the same loop: with it the segment's checksum is
    /// verified, so that the bytes are read once. `None`: they are verified first, and then received as
    /// usual.
    ///
    /// Nothing else of the stream may change. [`Stream::receive`] of the same bytes, in the same place,
    /// follows if they are right, and [`Stream::forget_placed`] in any case: what was not received by then
    /// was never here.
    fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        let _ = bytes;
        None
    }

    /// See [`Stream::place`].
    fn forget_placed(&mut self) {}

    /// How many bytes [`Stream::receive`] would take now: the receive window. When it grows outside of these
    /// calls, call [`crate::stack::Stack::wake`].
    fn window(&self) -> usize;

    /// The most that [`Stream::window`] may be as things stand (RCV.BUFF of RFC 9293 section 3.8.6.2.2): a
    /// window opens by half of that, or a segment, and not by less. Has to be right only where it is below
    /// two segments.
    fn capacity(&self) -> usize {
        usize::MAX
    }

    /// The peer's FIN: no byte will follow those already received. (Half-close: sending goes on until
    /// `is_finished()`.)
    fn receive_finished(&mut self, now: Instant) {
        let _ = now;
    }

    /// Where the part that the byte at `offset` lies in ends, among the bytes to send: a message's head, or
    /// its body. `None` if there are no parts. Asked only where segments must not hold several
    /// ([`crate::tcp::Config::header_merging`] off).
    fn part_end(&self, offset: u64) -> Option<u64> {
        let _ = offset;
        None
    }

    /// Whether the application has no use for further bytes, which [`PayloadSource::is_finished`] does not
    /// say: that one closes the direction from us to the peer, and reading goes on. What still arrives goes
    /// to [`Stream::receive`] as before; but once our FIN is acknowledged, a peer that neither sends nor
    /// closes is waited for no longer than [`crate::tcp::Config::fin_wait_2`]. A stream that reads on waits
    /// as long as its own deadline lets it.
    fn reads_no_more(&self) -> bool {
        false
    }

    /// When the application wants [`Stream::timeout`] called; asked after each event of the connection.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// [`Stream::deadline`] has passed (idle keep-alive connection, slow request...).
    fn timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Whether the application wants the connection reset instead of closed; asked after each event.
    fn is_aborted(&self) -> bool {
        false
    }
}

impl<S: Stream + ?Sized> Stream for &mut S {
    fn established(&mut self, now: Instant) {
        (**self).established(now);
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) -> usize {
        (**self).receive(now, bytes)
    }

    fn urgent(&mut self, now: Instant, bytes: u32) {
        (**self).urgent(now, bytes);
    }

    fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        (**self).place(bytes)
    }

    fn forget_placed(&mut self) {
        (**self).forget_placed();
    }

    fn window(&self) -> usize {
        (**self).window()
    }

    fn capacity(&self) -> usize {
        (**self).capacity()
    }

    fn receive_finished(&mut self, now: Instant) {
        (**self).receive_finished(now);
    }

    fn part_end(&self, offset: u64) -> Option<u64> {
        (**self).part_end(offset)
    }

    fn reads_no_more(&self) -> bool {
        (**self).reads_no_more()
    }

    fn deadline(&self) -> Option<Instant> {
        (**self).deadline()
    }

    fn timeout(&mut self, now: Instant) {
        (**self).timeout(now);
    }

    fn is_aborted(&self) -> bool {
        (**self).is_aborted()
    }
}
