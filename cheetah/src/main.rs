//! The command line of Cheetah: `main` parses, a file in `cmd/` does.

// `cmd/bench/process.rs` forks, and says why it may.
#![deny(unsafe_code)]

mod cmd;

use std::process::ExitCode;

use clap::Parser;
use runtime::wiping::Wiping;

/// What handshakes of TLS give back is overwritten.
#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

fn main() -> ExitCode {
    let arguments = match cmd::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    cmd::run(arguments)
}
