//! An emulated network adapter whose transmit buffer has a layout (`lance`: sixteen bytes, then a hole of
//! sixteen), in front of another device.
//!
//! ```text
//!   headers, payload --one engine run: gather, sum, stripe--> adapter's buffer --read back--> frame --> inner device
//! ```
//!
//! The host's half is what a driver for such an adapter does, and what composing loops at run time is for:
//! gathering the pieces, the Internet checksum and the striping are one loop. The adapter's half, which
//! hardware would do, reads its buffer and sends. Frames that arrive are passed through untouched.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use pipe_lib::CompileOptions;
use pipe_lib::ir::Layout;
use runtime::payload::Piece;
use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use runtime::transfer::{ReadBack, Transfer, TransferError, Transfers};
use smallvec::SmallVec;

use super::{Device, Received, Stats, TransmitError};
use crate::transmission::{Capabilities, Offload, Payload, Transmission};
use crate::wire::{EthernetAddress, checksum, ethernet, tcp};

/// An adapter with a layout before `D`.
#[derive(Debug)]
pub struct LayoutDevice<D> {
    inner: D,
    layout: Arc<Layout>,
    transfer: Transfer,
    read_back: ReadBack,
    /// The adapter's transmit buffer.
    buffer: Vec<u8>,
    /// What the adapter puts on the wire.
    frame: Vec<u8>,
    tx_dropped: u64,
}

impl<D: Device> LayoutDevice<D> {
    /// Puts an adapter with that layout in front of `inner`; `transfers` makes the loop.
    ///
    /// # Errors
    /// If a checksum cannot be filled in afterwards (a FIFO), or no backend takes the layout.
    pub fn new(
        inner: D,
        layout: &Arc<Layout>,
        transfers: &mut Transfers,
    ) -> Result<LayoutDevice<D>, TransferError> {
        let transfer = transfers.checksum(Some(layout))?;
        // The hardware reads everything that was put in, padding too: padding is a rule for writers.
        let as_read = Arc::new(Layout { pad: 0, store: None, ..Layout::clone(layout) });
        let read_back = ReadBack::new(&as_read, &CompileOptions::default())?;
        // A frame of the full MTU; stores of up to eight bytes round up.
        let longest =
            (usize::from(inner.mtu()) + ethernet::HEADER_LEN).max(layout.pad as usize).next_multiple_of(8);
        let buffer = vec![0; transfer.written_len(longest).unwrap_or(0)];
        Ok(LayoutDevice {
            inner,
            layout: Arc::clone(layout),
            transfer,
            read_back,
            buffer,
            frame: vec![0; longest],
            tx_dropped: 0,
        })
    }

    /// The device behind the adapter.
    pub fn get_ref(&self) -> &D {
        &self.inner
    }

    /// The host's half: fills the adapter's buffer. Gives how much of it is used; `None` if the frame does
    /// not fit.
    fn fill(&mut self, transmission: &Transmission<'_>) -> Option<usize> {
        let made;
        let mut pieces: SmallVec<[Piece<'_>; 8]> = SmallVec::new();
        pieces.push(Piece::new(transmission.headers));
        match transmission.payload {
            Payload::Pieces(payload) => pieces.extend_from_slice(payload),
            // The adapter's loop takes bytes that lie somewhere.
            Payload::Made(..) => {
                made = transmission.payload_to_vec();
                pieces.push(Piece::new(&made));
            }
        }
        let copied = self.transfer.copy_sum(&pieces, &mut self.buffer).ok()?;
        if let Some(tcp_start) = transmission.tcp_start.map(usize::from) {
            // The loop summed the whole frame: take off what stands before TCP, an even number of bytes. The
            // field holds the pseudo-header's sum, so that is in.
            let before = checksum::sum(&transmission.headers[..tcp_start]);
            let sum = checksum::add(copied.sum, !before);
            let field = (!sum).to_be_bytes();
            if !self.transfer.patch(&mut self.buffer, tcp_start + tcp::CHECKSUM_OFFSET, &field) {
                return None;
            }
        }
        Some(copied.written)
    }

    /// The adapter's half: the frame that the buffer holds, told its length as hardware is by a register.
    fn read(&mut self, used: usize, len: usize) -> Option<&[u8]> {
        let len = len.max(self.layout.pad as usize);
        self.read_back.read(&self.buffer[..used], &mut self.frame).ok()?;
        self.frame.get(..len)
    }
}

impl<D: Device> Device for LayoutDevice<D> {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn mtu(&self) -> u16 {
        self.inner.mtu()
    }

    fn hardware_addr(&self) -> EthernetAddress {
        self.inner.hardware_addr()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }

    fn can_transmit(&mut self) -> bool {
        self.inner.can_transmit()
    }

    fn transmit(&mut self, now: Instant, transmission: &Transmission<'_>) -> Result<(), TransmitError> {
        let frame_len =
            self.fill(transmission).and_then(|used| self.read(used, transmission.len())).map(<[u8]>::len);
        let Some(frame_len) = frame_len else {
            self.tx_dropped += 1;
            return Ok(());
        };
        count(Quantity::BytesSent, transmission.payload_len);
        let finished = Transmission {
            headers: &self.frame[..frame_len],
            payload: Payload::NONE,
            payload_len: 0,
            tcp_start: None,
            offload: Offload::default(),
        };
        self.inner.transmit(now, &finished)
    }

    fn receive(&mut self, now: Instant) -> io::Result<Option<Received<'_>>> {
        self.inner.receive(now)
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        self.inner.flush(now)
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.inner.next_arrival()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        stats.tx_dropped += self.tx_dropped;
        stats
    }
}
