//! A file system as a library: a checksummed image format whose files carry what a server needs to send them.
