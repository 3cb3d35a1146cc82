//! Device-to-device transfers: payload pieces go into a frame in one run of a composed loop.
//!
//! A [`Transfer`] gathers pieces of any length into a device's buffer, obeying the buffer's layout, and gives
//! the Internet checksum of what it wrote. Copying, summing and striping are one loop, made for just this
//! combination of pipeline and layout (*dynamic integrated layer processing*). [`Transfers`] keeps the
//! combinations that were asked for.

#[cfg(test)]
mod tests;

pub use pipe_lib::OnesSum;

use crate::payload::Piece;
use crate::stats::work::{Quantity, count};
use pipe_lib::compose::{ComposeError, Composer, Composition};
use pipe_lib::ir::builder::PipeBuilder;
use pipe_lib::ir::{BinaryOp, Endian, Gauge, Layout, Tail, Ty};
use pipe_lib::{CompileError, CompileOptions, Engine, ExportId, Pipeline, RunError};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// Whether the steps of a transfer are one loop or one pass each, so that the worth of fusing them can be
/// measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Style {
    /// One loop.
    #[default]
    Fused,
    /// `memcpy`, then a pass for the rest in place. With a layout, which only a fused loop can obey, the last
    /// pass does both.
    Separate,
}

/// What a transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the buffer that the transfer takes up, from its start; with a layout, holes and padding
    /// counted.
    pub written: usize,
    /// One's complement sum of the big-endian 16-bit words written (RFC 1071), not complemented; padding does
    /// not change it.
    pub sum: u16,
}

/// Why a transfer cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// The pipeline cannot be composed with the layout.
    Compose(ComposeError),
    /// No backend takes the composition.
    Compile(CompileError),
    /// The pipeline does not say what the sum of the bytes written is: it needs an `inet_cksum` (an export
    /// `sum` of type `u16`, without window) after the last stage that changes the bytes.
    NoSum,
    /// The layout sends every byte to one address, so that a header written before its payload can never get
    /// its checksum.
    CannotPatch {
        /// Name of the layout.
        layout: String,
    },
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Compose(error) => error.fmt(f),
            TransferError::Compile(error) => error.fmt(f),
            TransferError::NoSum => f.write_str(
                "the pipeline exports no `sum` of type u16 after its last stage that changes the bytes",
            ),
            TransferError::CannotPatch { layout } => {
                write!(
                    f,
                    "layout `{layout}` writes to one address: a checksum cannot be filled in afterwards"
                )
            }
        }
    }
}

impl core::error::Error for TransferError {}

impl From<ComposeError> for TransferError {
    fn from(error: ComposeError) -> TransferError {
        TransferError::Compose(error)
    }
}

impl From<CompileError> for TransferError {
    fn from(error: CompileError) -> TransferError {
        TransferError::Compile(error)
    }
}

/// The transfers in use, by pipeline and layout.
#[derive(Debug, Default)]
pub struct Transfers {
    options: CompileOptions,
    style: Style,
    made: FxHashMap<(Composition, Option<Arc<Layout>>), Transfer>,
}

impl Transfers {
    /// None yet. Transfers will be compiled and run as told here.
    pub fn new(options: CompileOptions, style: Style) -> Transfers {
        Transfers { options, style, made: FxHashMap::default() }
    }

    /// The transfer of a frame as it is: copy and Internet checksum, into a buffer with that layout.
    ///
    /// # Errors
    /// As [`Transfers::get`].
    pub fn checksum(&mut self, layout: Option<&Arc<Layout>>) -> Result<Transfer, TransferError> {
        self.get(&checksum_composition()?, layout)
    }

    /// The transfer that puts bytes through `pipeline` into a buffer with that layout. Made when first asked
    /// for.
    ///
    /// # Errors
    /// If the pipeline does not export the sum of what is written, cannot be compiled, or the layout does not
    /// allow for a checksum.
    pub fn get(
        &mut self,
        pipeline: &Composition,
        layout: Option<&Arc<Layout>>,
    ) -> Result<Transfer, TransferError> {
        let key = (pipeline.clone(), layout.cloned());
        if let Some(transfer) = self.made.get(&key) {
            return Ok(transfer.clone());
        }
        let transfer = Transfer::new(pipeline, layout, &self.options, self.style)?;
        self.made.insert(key, transfer.clone());
        Ok(transfer)
    }

    /// Number of combinations made so far.
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// Whether none has been made.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }
}

/// `inet_cksum as sum`.
fn checksum_composition() -> Result<Composition, ComposeError> {
    let mut b = PipeBuilder::new("inet_cksum", Gauge::new(Ty::U16, Endian::Big));
    b.tail(Tail::Zero);
    let sum = b.state("sum", Ty::U16, 0);
    let (x, old) = (b.input(), b.read(sum));
    let new = b.binary(BinaryOp::Addc, old, x);
    b.set(sum, new);
    b.export_state("sum", sum);
    let pipe = Arc::new(b.finish().expect("the pipe is well-formed: the test of `checksum` composes it"));
    Composer::new().stage(&pipe, Some("sum"), &[], None)?.finish()
}

/// A way of bytes from pieces into a frame. Cheap to clone, shared between threads.
#[derive(Clone, Debug)]
pub struct Transfer {
    engine: Engine,
    /// Number of the export that is the sum.
    sum: ExportId,
    layout: Option<Arc<Layout>>,
    style: Style,
    /// The bytes are written as they are and the sum is all that is asked for: sums that the source has can
    /// be used.
    plain: bool,
}

impl Transfer {
    fn new(
        pipeline: &Composition,
        layout: Option<&Arc<Layout>>,
        options: &CompileOptions,
        style: Style,
    ) -> Result<Transfer, TransferError> {
        if let Some(layout) = layout.filter(|layout| layout.fixed) {
            return Err(TransferError::CannotPatch { layout: layout.name.clone() });
        }
        let mut composition = pipeline.clone();
        if let Some(layout) = layout {
            composition.sink = Some(Arc::clone(layout));
        }
        let engine = Pipeline::from_composition(composition)?.compile_with(options)?;
        let stages = &engine.composition().stages;
        let changed_until = stages.iter().rposition(|stage| !stage.pipe.is_tap()).map_or(0, |i| i + 1);
        let sum = stages[changed_until..].iter().rev().find_map(|stage| {
            let name = format!("{}.sum", stage.name);
            let export = engine.exports().iter().find(|export| export.name == name)?;
            (export.ty == Ty::U16 && !export.windowed).then_some(export.id())
        });
        let sum = sum.ok_or(TransferError::NoSum)?;
        let plain = stages.len() == 1 && layout.is_none();
        Ok(Transfer { engine, sum, layout: layout.cloned(), style, plain })
    }

    /// The engine that does the work.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Bytes of the buffer that a frame of `len` bytes takes up; `None` if that cannot be addressed.
    pub fn written_len(&self, len: usize) -> Option<usize> {
        self.engine.written_len(len)
    }

    /// Gathers `pieces` into the start of `dst` and gives the sum of what was written.
    ///
    /// Pieces whose sum is known are copied only, if the bytes go out as they are; all others go through the
    /// loop, in one run for all that stand together. Boundaries may fall anywhere.
    ///
    /// # Errors
    /// If `dst` is shorter than [`Transfer::written_len`], or the pipeline rejects the length.
    pub fn copy_sum(&self, pieces: &[Piece<'_>], dst: &mut [u8]) -> Result<Copied, RunError> {
        if let ([piece], Style::Fused) = (pieces, self.style)
            && (piece.sum.is_none() || !self.plain)
        {
            let run = self.engine.run(piece.bytes, dst)?;
            count_fused(piece.bytes.len());
            return Ok(Copied { written: run.written, sum: run.value(self.sum) as u16 });
        }
        let len = pieces.iter().map(|piece| piece.bytes.len()).sum();
        let needed = self.written_len(len).ok_or(RunError::TooLong)?;
        if dst.len() < needed {
            return Err(RunError::ShortDestination { needed, have: dst.len() });
        }
        match (self.plain, self.style) {
            (true, _) => self.copy_runs(pieces, &mut dst[..len]),
            (false, Style::Fused) => {
                let source: SmallVec<[&[u8]; 8]> = pieces.iter().map(|piece| piece.bytes).collect();
                let run = self.engine.run_vectored(&source, &mut [dst])?;
                count_fused(len);
                Ok(Copied { written: run.written, sum: run.value(self.sum) as u16 })
            }
            (false, Style::Separate) => {
                let contiguous: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
                let run = self.engine.run(&contiguous, dst)?;
                count_fused(len);
                count_copy(len);
                Ok(Copied { written: run.written, sum: run.value(self.sum) as u16 })
            }
        }
    }

    /// A plain copy into a `dst` of just the right length: stretches of pieces with and without a known sum
    /// take turns.
    fn copy_runs(&self, pieces: &[Piece<'_>], dst: &mut [u8]) -> Result<Copied, RunError> {
        let written = dst.len();
        let mut total = OnesSum::new();
        let mut rest = dst;
        for stretch in pieces.chunk_by(|a, b| a.sum.is_none() && b.sum.is_none()) {
            let len = stretch.iter().map(|piece| piece.bytes.len()).sum();
            let (to, after) = rest.split_at_mut(len);
            let sum = match (stretch, self.style) {
                ([Piece { bytes, sum: Some(sum), .. }], _) => {
                    to.copy_from_slice(bytes);
                    count_copy(len);
                    *sum
                }
                ([Piece { bytes, .. }], Style::Fused) => {
                    count_fused(len);
                    self.engine.run(bytes, to)?.value(self.sum) as u16
                }
                (_, Style::Fused) => {
                    count_fused(len);
                    let source: SmallVec<[&[u8]; 8]> = stretch.iter().map(|piece| piece.bytes).collect();
                    self.engine.run_vectored(&source, &mut [to])?.value(self.sum) as u16
                }
                (_, Style::Separate) => {
                    let mut at = 0;
                    for piece in stretch {
                        to[at..at + piece.bytes.len()].copy_from_slice(piece.bytes);
                        at += piece.bytes.len();
                    }
                    count_copy(len);
                    count(Quantity::BytesSummed, len);
                    count(Quantity::BytesTouched, len);
                    self.engine.run_read_only(to)?.value(self.sum) as u16
                }
            };
            total.append(sum, len);
            rest = after;
        }
        Ok(Copied { written, sum: total.value() })
    }

    /// Overwrites bytes of a frame that a transfer has written to `buffer`, at offset `at` of the frame,
    /// obeying the layout: for a checksum that is known only afterwards. False, and nothing is written, if
    /// the frame's place in the buffer would end before.
    pub fn patch(&self, buffer: &mut [u8], at: usize, bytes: &[u8]) -> bool {
        let place = |i: usize| match self.layout.as_ref().and_then(|layout| layout.stripe) {
            Some(stripe) => stripe.offset((at + i) as u64) as usize,
            None => at + i,
        };
        let Some(last) = bytes.len().checked_sub(1) else { return true };
        if place(last) >= buffer.len() {
            return false;
        }
        for (i, &byte) in bytes.iter().enumerate() {
            buffer[place(i)] = byte;
        }
        true
    }
}

/// One loop has copied and summed so many bytes.
#[inline]
fn count_fused(bytes: usize) {
    count_copy(bytes);
    count(Quantity::BytesSummed, bytes);
}

/// So many bytes were copied, and nothing else.
#[inline]
fn count_copy(bytes: usize) {
    count(Quantity::BytesCopied, bytes);
    count(Quantity::BytesTouched, bytes);
}

/// The way back: the bytes that a buffer with a layout holds, for who plays the device.
#[derive(Clone, Debug)]
pub struct ReadBack {
    engine: Engine,
}

impl ReadBack {
    /// Reads buffers with that layout.
    ///
    /// # Errors
    /// If no backend takes it.
    pub fn new(layout: &Arc<Layout>, options: &CompileOptions) -> Result<ReadBack, TransferError> {
        let composition = Composer::new().source(Arc::clone(layout)).finish()?;
        Ok(ReadBack { engine: Pipeline::from_composition(composition)?.compile_with(options)? })
    }

    /// Copies the frame that `buffer` holds to the start of `frame`; gives its length. What the layout rounds
    /// up or pads is part of it.
    ///
    /// # Errors
    /// If `frame` is too short, or the layout cannot be read.
    pub fn read(&self, buffer: &[u8], frame: &mut [u8]) -> Result<usize, RunError> {
        let written = self.engine.run(buffer, frame)?.written;
        count_copy(written);
        Ok(written)
    }
}
