//! A tracer: everything that passes a device, written down as a capture file (the classic libpcap format with
//! nanoseconds, draft-ietf-opsawg-pcap section 4).
//!
//! Frames are written as they would be on a wire: where a checksum is left to the device, the trace has it
//! finished, so that a reader can tell a wrong one. Super-segments are written whole.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use runtime::time::Instant;

use super::frame::{FrameBuilder, finish_partial};
use super::{Device, Received, Stats, TransmitError};
use crate::transmission::{Capabilities, Transmission};
use crate::wire::EthernetAddress;

/// Longest frame written whole, unless something else is asked for: every frame is.
pub const DEFAULT_SNAPLEN: u32 = 262_144;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;

/// Writes a capture file.
#[derive(Debug)]
pub struct PcapWriter<W> {
    out: W,
    snaplen: u32,
    /// Nanoseconds since 1970 at [`Instant::ZERO`].
    origin_ns: u64,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header. `origin` is the wall clock's time at [`Instant::ZERO`]; at most `snaplen`
    /// bytes of each frame are kept.
    ///
    /// # Errors
    /// From `out`.
    pub fn new(mut out: W, snaplen: u32, origin: SystemTime) -> io::Result<PcapWriter<W>> {
        let mut header = [0u8; 24];
        header[0..4].copy_from_slice(&MAGIC_NANOSECONDS.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes()); // version 2.4
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&snaplen.to_le_bytes());
        header[20..24].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        out.write_all(&header)?;
        let since_1970 = origin.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(PcapWriter { out, snaplen, origin_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX) })
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// From `out`.
    pub fn write(&mut self, now: Instant, frame: &[u8]) -> io::Result<()> {
        let time = self.origin_ns.saturating_add(now.as_nanos());
        let kept = frame.len().min(self.snaplen as usize);
        let mut header = [0u8; 16];
        header[0..4].copy_from_slice(&((time / 1_000_000_000) as u32).to_le_bytes());
        header[4..8].copy_from_slice(&((time % 1_000_000_000) as u32).to_le_bytes());
        header[8..12].copy_from_slice(&(kept as u32).to_le_bytes());
        header[12..16].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(&frame[..kept])
    }

    /// Hands everything written so far to the system.
    ///
    /// # Errors
    /// From `out`.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The writer back. Not flushed.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// A device whose traffic is written down.
#[derive(Debug)]
pub struct TraceDevice<D, W> {
    inner: D,
    writer: Option<PcapWriter<W>>,
    error: Option<io::Error>,
    builder: FrameBuilder,
    scratch: Vec<u8>,
}

impl<D: Device, W: Write> TraceDevice<D, W> {
    /// Writes what passes `inner` to `writer`.
    pub fn new(inner: D, writer: PcapWriter<W>) -> TraceDevice<D, W> {
        TraceDevice {
            inner,
            writer: Some(writer),
            error: None,
            builder: FrameBuilder::new(),
            scratch: Vec::new(),
        }
    }

    /// Why the trace has ended early, once: a full disk stops the trace, not the traffic.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// The device traced.
    pub fn get_ref(&self) -> &D {
        &self.inner
    }

    /// Ends the trace, flushes it and gives the writer back.
    ///
    /// # Errors
    /// From flushing the writer, or what ended the trace before.
    pub fn into_writer(self) -> io::Result<PcapWriter<W>> {
        let ended = || io::Error::other("the trace has ended early");
        let mut writer = self.writer.ok_or_else(|| self.error.unwrap_or_else(ended))?;
        writer.flush()?;
        Ok(writer)
    }
}

impl<D, W: Write> TraceDevice<D, W> {
    fn keep(writer: &mut Option<PcapWriter<W>>, error: &mut Option<io::Error>, result: io::Result<()>) {
        if let Err(e) = result {
            *writer = None;
            *error = Some(e);
        }
    }
}

impl<D: Device, W: Write + std::fmt::Debug> Device for TraceDevice<D, W> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
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
        if let Some(writer) = &mut self.writer {
            let frame = self.builder.build(&[], transmission);
            // The builder finishes what TCP leaves to the device; of UDP, several datagrams under one header.
            let result = if transmission.tcp_start.is_none() && transmission.offload.checksum.is_some() {
                self.scratch.clear();
                self.scratch.extend_from_slice(frame);
                finish_partial(&mut self.scratch);
                writer.write(now, &self.scratch)
            } else {
                writer.write(now, frame)
            };
            Self::keep(&mut self.writer, &mut self.error, result);
        }
        self.inner.transmit(now, transmission)
    }

    fn receive(&mut self, now: Instant) -> io::Result<Option<Received<'_>>> {
        let received = self.inner.receive(now)?;
        if let (Some(received), Some(writer)) = (&received, &mut self.writer) {
            let result = if received.checksum.is_partial() {
                self.scratch.clear();
                self.scratch.extend_from_slice(received.bytes);
                finish_partial(&mut self.scratch);
                writer.write(now, &self.scratch)
            } else {
                writer.write(now, received.bytes)
            };
            Self::keep(&mut self.writer, &mut self.error, result);
        }
        Ok(received)
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        if let Some(writer) = &mut self.writer {
            let result = writer.flush();
            Self::keep(&mut self.writer, &mut self.error, result);
        }
        self.inner.flush(now)
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.inner.next_arrival()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }
}
