//! HPACK, the compression of HTTP/2's heads (RFC 7541).
//!
//! What comes is decoded with a dynamic table of at most [`MAX_TABLE_BYTES`]; every block is worth a bounded
//! number of steps. What goes out never enters the peer's table: it is indices of the static one and
//! literals, so that the block of a packed file is made once, when it is packed, and is right on every
//! connection.

mod decoder;
mod encoder;
mod huffman;
mod static_table;

pub use decoder::{BadBlock, Decoder, MAX_TABLE_BYTES};
pub(crate) use encoder::is_of_connection;
pub use encoder::{EMPTY_TABLE, field, get, of_head, status};

#[cfg(test)]
mod tests;
