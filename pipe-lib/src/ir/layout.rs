//! Device layouts: the rules by which a device's buffer takes or gives the bytes of a stream.

/// A device's rules for data movement (`layout NAME { data 16 gap 16 }`).
///
/// As a sink: byte `i` of the stream goes to offset `i / data * (data + gap) + i % data` of the buffer; gaps
/// are never written. As a source the same map is read. `store` fixes the width of each access, `fixed` sends
/// every access to the start of the buffer (a FIFO register), `pad` extends the transfer with zero bytes to a
/// least length.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Name in the library.
    pub name: String,
    /// Documentation comment, without the slashes.
    pub doc: String,
    /// Bytes taken before each hole, and the bytes of the hole; `None` for a contiguous buffer.
    pub stripe: Option<Stripe>,
    /// Bytes of every access (1, 2, 4 or 8), in ascending order of addresses; `None` leaves it to the code
    /// generator.
    pub store: Option<u8>,
    /// Every access goes to the same address.
    pub fixed: bool,
    /// Least length of a transfer in bytes; shorter ones are extended by zeros. 0 for none.
    pub pad: u64,
}

/// The period of a striped buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stripe {
    /// Bytes of data in a period; not 0.
    pub data: u32,
    /// Bytes of the hole that follows.
    pub gap: u32,
}

impl Stripe {
    /// Offset in the buffer of byte `i` of the stream.
    pub const fn offset(self, i: u64) -> u64 {
        let data = self.data as u64;
        i / data * (data + self.gap as u64) + i % data
    }
}
