//! The fields of a frame, ready to be written and compared: results found by number, sums folded.

use crate::compose::Composition;
use crate::compose::frames::{End, find_export};
use crate::digest::DigestValue;
use crate::drive::Progress;
use crate::error::{Mismatch, RunError};
use crate::ir::{Endian, Field, Frame, Gauge, Term};
use crate::program::Program;
use smallvec::SmallVec;
use std::sync::Arc;

/// A frame at one end of an engine.
#[derive(Debug)]
pub(crate) struct FramePlan {
    pub(crate) frame: Arc<Frame>,
    /// Bytes of data in a window.
    pub(crate) window: u64,
    /// Bytes before and behind them.
    pub(crate) head: usize,
    pub(crate) foot: usize,
    /// Whether what stands before the data is known only when they are all there.
    pub(crate) late_head: bool,
    fields: Box<[FieldPlan]>,
}

#[derive(Debug)]
struct FieldPlan {
    in_foot: bool,
    /// Offset in the head or the foot.
    at: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Bytes(Box<[u8]>),
    Sum(FieldSum),
    /// The first bytes of the digest that is this export.
    Digest {
        bytes: usize,
        export: usize,
    },
}

/// `constant + index * .. + length * ..` and registers and exports.
#[derive(Debug)]
struct FieldSum {
    gauge: Gauge,
    constant: u64,
    index: u64,
    length: u64,
    registers: SmallVec<[usize; 1]>,
    exports: SmallVec<[usize; 1]>,
}

/// What the fields of a window are made of.
#[derive(Clone, Copy)]
pub(crate) struct Results<'a> {
    pub(crate) index: u64,
    /// Bytes of data.
    pub(crate) length: u64,
    /// All registers of the engine, parameters of frames included.
    pub(crate) registers: &'a [u64],
    /// The exports of the window.
    pub(crate) exports: Exports<'a>,
}

/// Where the exports of a window are.
#[derive(Clone, Copy)]
pub(crate) enum Exports<'a> {
    /// Taken down by the driver when the window ended, or the stream.
    Taken(&'a Program, &'a Progress),
    /// To be got from the registers, as they are where the window ends.
    Registers(&'a Program),
}

/// A field that is not as it should be.
pub(crate) struct Wrong {
    field: usize,
    /// Offset in the head or the foot.
    in_foot: bool,
    at: usize,
    expected: u64,
    found: u64,
}

impl FramePlan {
    /// For the frame at an end of a checked composition: its first parameter is register `first_param`, and
    /// export `e` of stage `s` has number `export_number(s, e)`.
    pub(crate) fn new(
        composition: &Composition,
        frame: &Arc<Frame>,
        end: End,
        first_param: usize,
        export_number: impl Fn(usize, usize) -> usize,
    ) -> FramePlan {
        let mut fields = Vec::new();
        let mut late_head = false;
        for (in_foot, place) in [(false, &frame.head), (true, &frame.foot)] {
            let mut at = 0;
            for field in place {
                let what = match field {
                    Field::Gap(_) => None,
                    Field::Bytes(bytes) => Some(What::Bytes(bytes.as_slice().into())),
                    // A composition that is checked has it.
                    Field::Digest { bytes, export } => {
                        late_head |= !in_foot;
                        find_export(&composition.stages, end, export).map(|found| What::Digest {
                            bytes: *bytes as usize,
                            export: export_number(found.stage, found.export),
                        })
                    }
                    Field::Put { gauge, sum } => {
                        let mut plan = FieldSum {
                            gauge: *gauge,
                            constant: 0,
                            index: 0,
                            length: 0,
                            registers: SmallVec::new(),
                            exports: SmallVec::new(),
                        };
                        for term in sum {
                            match term {
                                Term::Const(value) => plan.constant = plan.constant.wrapping_add(*value),
                                Term::Index => plan.index += 1,
                                Term::Length => plan.length += 1,
                                Term::Param(id) => plan.registers.push(first_param + id.0 as usize),
                                Term::Export(name) => {
                                    // A composition that is checked has it.
                                    if let Some(found) = find_export(&composition.stages, end, name) {
                                        plan.exports.push(export_number(found.stage, found.export));
                                    }
                                }
                            }
                        }
                        late_head |= !in_foot && (plan.length != 0 || !plan.exports.is_empty());
                        Some(What::Sum(plan))
                    }
                };
                fields.extend(what.map(|what| FieldPlan { in_foot, at, what }));
                at += field.bytes() as usize;
            }
        }
        FramePlan {
            frame: Arc::clone(frame),
            window: frame.window(),
            head: frame.head_bytes() as usize,
            foot: frame.foot_bytes() as usize,
            late_head,
            fields: fields.into(),
        }
    }

    /// The window that ends at offset `end` of a stream, or is cut there: its number and its bytes of data.
    /// An empty stream has none, unless a window is as long as the stream.
    pub(crate) fn window_before(&self, end: u64) -> Option<(u64, u64)> {
        match (self.frame.data, end) {
            (Some(_), 0) => None,
            (Some(_), _) => {
                let index = (end - 1) / self.window;
                Some((index, end - index * self.window))
            }
            (None, _) => Some((0, end)),
        }
    }

    /// Offset in the stream where the window that begins at or before `at` ends.
    pub(crate) fn boundary(&self, at: u64) -> u64 {
        (at / self.window).saturating_add(1).saturating_mul(self.window)
    }

    /// Writes the fields of a window: those before its data, if there is a `head`, and those behind, if there
    /// is a `foot`.
    #[inline]
    pub(crate) fn write(&self, head: Option<&mut [u8]>, foot: Option<&mut [u8]>, results: Results<'_>) {
        let mut places = [head, foot];
        for field in &self.fields {
            let Some(place) = &mut places[usize::from(field.in_foot)] else { continue };
            match &field.what {
                What::Bytes(bytes) => place[field.at..field.at + bytes.len()].copy_from_slice(bytes),
                What::Sum(sum) => sum.write(results.value(sum), &mut place[field.at..]),
                What::Digest { bytes, export } => {
                    let value = results.digest(*export);
                    place[field.at..field.at + bytes].copy_from_slice(&value[..*bytes]);
                }
            }
        }
    }

    /// The first field of a window that does not hold what it should.
    #[inline]
    pub(crate) fn check(&self, head: &[u8], foot: &[u8], results: Results<'_>) -> Result<(), Wrong> {
        for (index, field) in self.fields.iter().enumerate() {
            let place = &if field.in_foot { foot } else { head }[field.at..];
            match &field.what {
                What::Bytes(bytes) => field.compare(index, bytes, place)?,
                What::Digest { bytes, export } => {
                    let digest = results.digest(*export);
                    field.compare(index, &digest[..*bytes], place)?;
                }
                What::Sum(sum) => {
                    let (expected, found) = (results.value(sum), sum.read(place));
                    if expected != found {
                        let at = field.at;
                        return Err(Wrong { field: index, in_foot: field.in_foot, at, expected, found });
                    }
                }
            }
        }
        Ok(())
    }

    /// What is wrong with window `index`, which has `length` bytes of data, for people and programs.
    #[cold]
    pub(crate) fn mismatch(&self, wrong: &Wrong, index: u64, length: u64) -> RunError {
        let good = index.saturating_mul(if index == 0 { 0 } else { self.window });
        let start = self.frame.offset(good);
        let place = if wrong.in_foot { start + length } else { start - self.head as u64 };
        let fields = self.frame.head.iter().chain(&self.frame.foot);
        let written = fields.filter(|field| !matches!(field, Field::Gap(_))).nth(wrong.field);
        RunError::Mismatch(Box::new(Mismatch {
            frame: self.frame.name.clone(),
            field: written.map(|field| self.frame.field_text(field)).unwrap_or_default(),
            window: index,
            offset: place + wrong.at as u64,
            expected: wrong.expected,
            found: wrong.found,
            good,
        }))
    }

    /// Refuses a stream whose last window is not whole where it should be.
    pub(crate) fn check_whole(&self, len: u64) -> Result<(), RunError> {
        if self.frame.whole && !self.frame.is_whole(len) {
            return Err(self.wrong_length("its last window is not whole"));
        }
        Ok(())
    }

    pub(crate) fn wrong_length(&self, what: &'static str) -> RunError {
        RunError::FrameLength { frame: self.frame.name.clone(), what }
    }

    pub(crate) fn refuse(&self, what: &'static str) -> RunError {
        RunError::Frame { frame: self.frame.name.clone(), what }
    }

    /// Bytes of the stream in a buffer of `framed` bytes.
    pub(crate) fn stream_len(&self, framed: usize) -> Result<usize, RunError> {
        // One whole window, as most short transfers are.
        if self.frame.data.is_some() && framed as u64 == self.window.saturating_add(self.fields()) {
            return Ok(self.window as usize);
        }
        let len = self.frame.stream_len(framed as u64).map_err(|what| self.wrong_length(what))?;
        self.check_whole(len)?;
        Ok(len as usize)
    }

    /// Bytes that a stream of `len` bytes takes.
    pub(crate) fn framed_len(&self, len: usize) -> Option<usize> {
        let fields = self.frame.windows(len as u64).checked_mul(self.fields())?;
        usize::try_from(fields.checked_add(len as u64)?).ok().filter(|&len| len <= isize::MAX as usize)
    }

    /// Bytes of the fields around a window.
    const fn fields(&self) -> u64 {
        self.head as u64 + self.foot as u64
    }
}

impl FieldPlan {
    /// Compares field number `index` with the bytes that it should have.
    fn compare(&self, index: usize, bytes: &[u8], place: &[u8]) -> Result<(), Wrong> {
        let Some(at) = bytes.iter().zip(place).position(|(a, b)| a != b) else { return Ok(()) };
        let (expected, found) = (bytes[at].into(), place[at].into());
        Err(Wrong { field: index, in_foot: self.in_foot, at: self.at + at, expected, found })
    }
}

impl Results<'_> {
    /// The digest that is an export.
    fn digest(&self, export: usize) -> DigestValue {
        let (Exports::Taken(program, _) | Exports::Registers(program)) = self.exports;
        let info = &program.exports[export];
        let Some(kind) = info.digest else { return DigestValue::new(&[]) };
        if let Exports::Taken(_, progress) = self.exports
            && info.windowed
            && let Some((_, last)) = progress
                .windows
                .get(export)
                .and_then(|list| list.split_at_checked(list.len().checked_sub(kind.words())?))
        {
            return DigestValue::of_words(last, kind.bytes());
        }
        program.digest_value(info.stage, kind, self.registers)
    }

    #[inline]
    fn value(&self, sum: &FieldSum) -> u64 {
        let mut value = sum.constant;
        value = value.wrapping_add(sum.index.wrapping_mul(self.index));
        value = value.wrapping_add(sum.length.wrapping_mul(self.length));
        for &register in &sum.registers {
            value = value.wrapping_add(self.registers[register]);
        }
        for &export in &sum.exports {
            value = value.wrapping_add(match self.exports {
                Exports::Taken(program, progress) => match progress.windows.get(export) {
                    Some(list) if program.exports[export].windowed => list.last().copied().unwrap_or(0),
                    _ => program.export_exprs[export].value(self.registers),
                },
                Exports::Registers(program) => program.export_exprs[export].value(self.registers),
            });
        }
        value & sum.gauge.ty.mask()
    }
}

impl FieldSum {
    /// As the bytes lie in memory, from the least significant on.
    #[inline]
    fn swapped(&self, value: u64) -> u64 {
        match self.gauge.endian {
            Endian::Little => value,
            Endian::Big => value.swap_bytes() >> (64 - self.gauge.ty.bits()),
        }
    }

    #[inline]
    fn write(&self, value: u64, place: &mut [u8]) {
        let bytes = self.swapped(value).to_le_bytes();
        // Each a single store.
        match self.gauge.bytes() {
            1 => place[..1].copy_from_slice(&bytes[..1]),
            2 => place[..2].copy_from_slice(&bytes[..2]),
            4 => place[..4].copy_from_slice(&bytes[..4]),
            _ => place[..8].copy_from_slice(&bytes),
        }
    }

    #[inline]
    fn read(&self, place: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        match self.gauge.bytes() {
            1 => bytes[..1].copy_from_slice(&place[..1]),
            2 => bytes[..2].copy_from_slice(&place[..2]),
            4 => bytes[..4].copy_from_slice(&place[..4]),
            _ => bytes.copy_from_slice(&place[..8]),
        }
        self.swapped(u64::from_le_bytes(bytes))
    }
}
