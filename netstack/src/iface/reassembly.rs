//! Fragments put together again (RFC 791 section 3.2, by the hole descriptors of RFC 815), in bounds of
//! bytes, of holes and of time.
//!
//! ```text
//!   0          1480         2960         4440     total
//!   |  there   |    hole    |   there    |   hole   |          a fragment fills a part of one hole, or it overlaps
//! ```
//!
//! Nobody who means well sends fragments that overlap, so a datagram with such is given up whole, with all
//! that is still to come of it (RFC 5722 asks for this in IPv6; the reasons are the same). A copy of what is
//! there, byte for byte, is what networks make by themselves: it is ignored.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use runtime::time::Instant;
use smallvec::{SmallVec, smallvec};

/// How long a datagram is waited for from its first fragment on. RFC 1122 section 3.3.2 asks for 60 to 120 s;
/// all stacks of today wait for 30.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// Datagrams that are waited for at once, at most.
pub const MAX_DATAGRAMS: usize = 64;

/// Holes of one datagram at most: bounds the work for each fragment. A datagram of 64 KB whose every other
/// packet is late has 60 at an MTU of 576.
const MAX_HOLES: usize = 128;

/// Longest payload of a datagram: what a 16-bit length leaves beside the header.
const MAX_LEN: usize = 65_535 - 20;

/// Bytes of the datagram that a report of its failure quotes: the header without options, and eight of its
/// payload.
const QUOTED: usize = 28;

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramId {
    /// Who sent it.
    pub src: IpAddr,
    /// To whom.
    pub dst: IpAddr,
    /// What it carries.
    pub protocol: u8,
    /// The sender's number for it.
    pub ident: u32,
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// Of which one.
    pub id: DatagramId,
    /// Where in its payload this lies, in bytes.
    pub offset: usize,
    /// Whether more follow it.
    pub more: bool,
    /// This part of the payload.
    pub payload: &'a [u8],
    /// Of the first part: its header and the beginning of the payload, to be quoted should the rest never
    /// come.
    pub quote: Option<[u8; QUOTED]>,
}

/// What became of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is kept; others are missing.
    Kept,
    /// It was the last one missing: the datagram's payload.
    Complete(Vec<u8>),
    /// It is of no use: malformed, a copy, or of a datagram that was given up.
    Dropped,
}

/// A range of bytes that are missing; `end` of the last one is as far as the datagram may reach until its end
/// is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    start: usize,
    end: usize,
}

#[derive(Debug)]
struct Datagram {
    id: DatagramId,
    expires: Instant,
    /// The bytes so far, zeros in the holes.
    bytes: Vec<u8>,
    /// Ascending. Empty also once the datagram was given up.
    holes: SmallVec<[Hole; 2]>,
    total: Option<usize>,
    quote: Option<[u8; QUOTED]>,
    given_up: bool,
}

/// Datagrams of which fragments have come, in the order of their first ones.
#[derive(Debug)]
pub struct Reassembly {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    capacity: usize,
}

impl Reassembly {
    /// Keeps `capacity` bytes at most; none: all fragments are dropped.
    pub fn new(capacity: usize) -> Reassembly {
        Reassembly { datagrams: VecDeque::new(), bytes: 0, capacity }
    }

    /// Takes in a fragment.
    pub fn add(&mut self, now: Instant, fragment: &Fragment<'_>) -> Added {
        let end = fragment.offset + fragment.payload.len();
        // All but the last are multiples of eight bytes long, none is empty, and together they fit into a
        // datagram.
        let aligned = !fragment.more || fragment.payload.len().is_multiple_of(8);
        if fragment.payload.is_empty() || !aligned || end > MAX_LEN || end > self.capacity {
            return Added::Dropped;
        }
        let at = match self.datagrams.iter().position(|datagram| datagram.id == fragment.id) {
            Some(at) => at,
            None => {
                self.make_room(1, 0);
                self.datagrams.push_back(Datagram::new(fragment.id, now + LIFETIME));
                self.datagrams.len() - 1
            }
        };
        if self.datagrams[at].given_up {
            return Added::Dropped;
        }
        let grown = end.saturating_sub(self.datagrams[at].bytes.len());
        // The oldest give way, which may be this one.
        let gone = self.make_room(0, grown);
        let Some(at) = at.checked_sub(gone) else { return Added::Dropped };
        let datagram = &mut self.datagrams[at];
        let before = datagram.bytes.len();
        let added = datagram.add(fragment);
        self.bytes = self.bytes + datagram.bytes.len() - before;
        if let Added::Complete(_) = added {
            self.datagrams.remove(at);
        }
        added
    }

    /// Gives up the next datagram whose time is over; call until `None`. What to quote in the report of it,
    /// if its beginning has come (RFC 792, time exceeded); to be sent to the first address.
    pub fn expire(&mut self, now: Instant) -> Option<Option<(IpAddr, [u8; QUOTED])>> {
        if self.datagrams.front()?.expires > now {
            return None;
        }
        let Datagram { id, bytes, quote, .. } = self.datagrams.pop_front()?;
        self.bytes -= bytes.len();
        Some(quote.map(|quote| (id.src, quote)))
    }

    /// When [`Reassembly::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.datagrams.front().map(|datagram| datagram.expires)
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of the oldest until there is room for so many more; how many had to go.
    fn make_room(&mut self, datagrams: usize, bytes: usize) -> usize {
        let mut gone = 0;
        while self.datagrams.len() + datagrams > MAX_DATAGRAMS || self.bytes + bytes > self.capacity {
            let Some(oldest) = self.datagrams.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
            gone += 1;
        }
        gone
    }
}

impl Datagram {
    fn new(id: DatagramId, expires: Instant) -> Datagram {
        Datagram {
            id,
            expires,
            bytes: Vec::new(),
            holes: smallvec![Hole { start: 0, end: MAX_LEN }],
            total: None,
            quote: None,
            given_up: false,
        }
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Added {
        let (start, end) = (fragment.offset, fragment.offset + fragment.payload.len());
        if !self.agrees_on_the_end(end, fragment.more) {
            return self.give_up();
        }
        let Some(at) = self.holes.iter().position(|hole| hole.start <= start && end <= hole.end) else {
            let is_there = self.holes.iter().all(|hole| end <= hole.start || hole.end <= start);
            let is_copy = is_there && self.bytes.get(start..end) == Some(fragment.payload);
            return if is_copy { Added::Dropped } else { self.give_up() };
        };
        let hole = self.holes.remove(at);
        if end < hole.end && (fragment.more || self.total.is_some()) {
            self.holes.insert(at, Hole { start: end, ..hole });
        }
        if hole.start < start {
            self.holes.insert(at, Hole { end: start, ..hole });
        }
        if self.holes.len() > MAX_HOLES {
            return self.give_up();
        }
        if !fragment.more {
            self.total = Some(end);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(fragment.payload);
        if start == 0 {
            self.quote = fragment.quote;
        }
        if self.holes.is_empty() { Added::Complete(std::mem::take(&mut self.bytes)) } else { Added::Kept }
    }

    /// Whether a fragment up to `end` contradicts none that said where the datagram ends, or goes on.
    fn agrees_on_the_end(&self, end: usize, more: bool) -> bool {
        match self.total {
            Some(total) if more => end < total,
            Some(total) => end == total,
            None => more || self.bytes.len() <= end,
        }
    }

    fn give_up(&mut self) -> Added {
        self.given_up = true;
        self.bytes = Vec::new();
        self.holes.clear();
        self.quote = None;
        Added::Dropped
    }
}

#[cfg(test)]
mod tests;
