//! Frames: fields before and behind the data of a stream, or of each stretch of it, that hold results.

use super::op::ParamId;
use super::pipe::Param;
use super::types::Gauge;
use std::num::NonZeroU64;

/// Fields around data (`frame NAME { data 512 put u16be crc }`).
///
/// As a sink: every `data` bytes of the stream stand between the fields of the head and those of the foot,
/// which are computed when the last of these bytes is there. As a source the same fields are taken out, and
/// compared with what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Name in the library; in a composition the instance's.
    pub name: String,
    /// Documentation comment, without the slashes.
    pub doc: String,
    /// Values that a run may give otherwise (`Imports::set("name.param", ..)`); in a composition each has a
    /// default.
    pub params: Vec<Param>,
    /// Bytes of the stream in each window; `None` for all of it in one.
    pub data: Option<NonZeroU64>,
    /// What stands before the data.
    pub head: Vec<Field>,
    /// What stands behind them.
    pub foot: Vec<Field>,
    /// Whether a last window of fewer bytes is refused.
    pub whole: bool,
}

/// Something that is not data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Bytes that are neither written nor looked at.
    Gap(u32),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A number in a stated width and order.
    Put {
        /// The width, at most 64 bits, and the order.
        gauge: Gauge,
        /// What is added up, modulo two to the width. Not empty.
        sum: Vec<Term>,
    },
    /// The first bytes of a digest of another crate.
    Digest {
        /// How many, at most as many as it has.
        bytes: u32,
        /// The export: `instance.digest`, `pipe.digest` or `digest`.
        export: String,
    },
}

/// Something to add up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// A number.
    Const(u64),
    /// A parameter of the frame.
    Param(ParamId),
    /// The number of the window, from 0.
    Index,
    /// The bytes of data in the window.
    Length,
    /// An export: `instance.export`, `pipe.export` or `export`.
    Export(String),
}

/// Most bytes of all fields before or behind data.
pub const MAX_FIELD_BYTES: u64 = 1 << 16;

impl Field {
    /// Bytes that the field takes.
    pub fn bytes(&self) -> u64 {
        match self {
            Field::Gap(bytes) => u64::from(*bytes),
            Field::Bytes(bytes) => bytes.len() as u64,
            Field::Put { gauge, .. } => gauge.bytes() as u64,
            Field::Digest { bytes, .. } => u64::from(*bytes),
        }
    }
}

impl Frame {
    /// Bytes of the fields before the data.
    pub fn head_bytes(&self) -> u64 {
        self.head.iter().map(Field::bytes).sum()
    }

    /// Bytes of the fields behind the data.
    pub fn foot_bytes(&self) -> u64 {
        self.foot.iter().map(Field::bytes).sum()
    }

    /// Bytes of the longest window.
    pub fn window(&self) -> u64 {
        self.data.map_or(u64::MAX, NonZeroU64::get)
    }

    /// Windows of a stream of `len` bytes. A window as long as the stream is there even if that is empty.
    pub fn windows(&self, len: u64) -> u64 {
        match self.data {
            // One window, as most short transfers have, takes no division.
            Some(data) if len <= data.get() => u64::from(len > 0),
            Some(data) => len.div_ceil(data.get()),
            None => 1,
        }
    }

    /// Whether all windows of a stream of `len` bytes are whole.
    pub fn is_whole(&self, len: u64) -> bool {
        len == self.window() || len.is_multiple_of(self.window())
    }

    /// Bytes that a stream of `len` bytes takes with its fields; `None` beyond 2^64.
    pub fn framed_len(&self, len: u64) -> Option<u64> {
        let fields = self.head_bytes() + self.foot_bytes();
        self.windows(len).checked_mul(fields)?.checked_add(len)
    }

    /// Bytes of the stream in `framed` bytes.
    ///
    /// # Errors
    /// What is wrong with such a length, as a phrase.
    pub fn stream_len(&self, framed: u64) -> Result<u64, &'static str> {
        let fields = self.head_bytes() + self.foot_bytes();
        let Some(data) = self.data else {
            return framed.checked_sub(fields).ok_or("it is shorter than the fields");
        };
        let period = data.get().saturating_add(fields);
        let (windows, rest) = (framed / period, framed % period);
        match rest {
            0 => Ok(windows * data.get()),
            _ if rest <= fields => Err("it ends within the fields of a window"),
            _ => Ok(windows * data.get() + rest - fields),
        }
    }

    /// Where byte `at` of the stream lies in the framed bytes.
    pub fn offset(&self, at: u64) -> u64 {
        if at < self.window() {
            return at + self.head_bytes();
        }
        let fields = self.head_bytes() + self.foot_bytes();
        at + at / self.window() * fields + self.head_bytes()
    }

    /// Whether both put the same stretches of data in the same places.
    pub fn same_places(&self, other: &Frame) -> bool {
        let places = |frame: &Frame| (frame.data, frame.head_bytes(), frame.foot_bytes());
        places(self) == places(other)
    }
}
