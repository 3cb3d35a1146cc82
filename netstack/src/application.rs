//! What the stack asks of the application that owns the connections.
//!
//! The stack keeps no connection: the application puts each [`Pcb`] inside its own connection record (a slab
//! entry, a pool slot) and the stack knows only the [`Key`] under which it will be found. All calls are
//! static, so the compiler sees through them; none allocates.
//!
//! ```text
//!   accept(pcb) -> key          handshake complete: the PCB moves into the application's record
//!   connection(key)             -> (&mut Pcb, Stream): both halves of the record, borrowed at once
//!     Stream::receive(bytes)    in-order bytes, straight from the frame
//!     Stream::{end, pieces, acknowledged, is_finished}   the bytes to send (PayloadSource)
//!   datagram(socket, from, bytes, out)   of UDP: no record, only what is bound
//!   closed(key, reason)         the PCB is dead; the record and its key may be reused
//! ```

pub use crate::stack::{Application, Datagrams, Key, UdpSocket};
pub use crate::tcp::{CloseReason, Pcb, Stream};
