//! Names for machine code in the profiles of `perf`.
//!
//! With the environment variable `PIPE_LIB_PERF_MAP` set to anything but the empty string, every function is
//! recorded in `/tmp/perf-PID.map`, where `perf report` looks for code that belongs to no file. A line has
//! the address and size in hexadecimal and a name such as `pipe:inet_cksum|byteswap32`. Code that has been
//! freed stays recorded, and its address is not reused in such a process: `perf` reads the file at the end
//! and knows one name for an address.
//!
//! No unwind tables are needed: the functions call nothing and save no register, so at every instruction the
//! return address is at the top of the stack and the caller's frame pointer in its register. But for those
//! that keep vectors on the stack (GHASH with AVX2 and VPCLMULQDQ): there it is above these. Nothing in them
//! can raise a Rust panic.

use crate::code::CodeMemory;
use crate::plan::stage::VectorStage;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::sync::{Mutex, OnceLock};

/// Notes the function at `place` if somebody asked for it; it is named after its stages, `kind` behind them.
pub(super) fn announce(code: &CodeMemory, place: &Range<usize>, stages: &[VectorStage], kind: &str) {
    static MAP: OnceLock<Option<Mutex<File>>> = OnceLock::new();
    let Some(map) = MAP.get_or_init(open) else { return };
    let line = line(code.address(place.start).addr(), place.len(), stages, kind);
    // A profile without names is no reason to fail.
    if let Ok(mut map) = map.lock() {
        let _ = map.write_all(line.as_bytes());
    }
}

fn open() -> Option<Mutex<File>> {
    std::env::var_os("PIPE_LIB_PERF_MAP").filter(|value| !value.is_empty())?;
    let path = format!("/tmp/perf-{}.map", std::process::id());
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        /// `asm/fcntl.h` of x86-64: fail if the path is a symbolic link.
        const O_NOFOLLOW: i32 = 0o400_000;
        // The name can be guessed, and anybody may have put a link there.
        options.custom_flags(O_NOFOLLOW);
    }
    let map = options.open(path).ok()?;
    crate::code::keep_addresses();
    Some(Mutex::new(map))
}

fn line(address: usize, size: usize, stages: &[VectorStage], kind: &str) -> String {
    let names: Vec<&str> = stages.iter().map(|stage| stage.pipe.name.as_str()).collect();
    let names = if names.is_empty() { "copy".to_owned() } else { names.join("|") };
    format!("{address:x} {size:x} pipe:{names}{kind}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::Analysed;
    use crate::library::Library;

    #[test]
    fn a_line_has_address_size_and_the_names_of_the_stages() {
        let pipeline = Library::standard().pipeline("inet_cksum | byteswap32").unwrap();
        let stages = Analysed::all(pipeline.composition().stages.iter().map(|stage| &stage.pipe));
        let stages: Vec<VectorStage> = stages
            .iter()
            .map(|stage| VectorStage::of(stage, crate::plan::target::LaneOps::All).unwrap())
            .collect();
        assert_eq!(line(0x7f00_1000, 0x2a0, &stages, ""), "7f001000 2a0 pipe:inet_cksum|byteswap32\n");
        assert_eq!(line(16, 1, &[], " (reading)"), "10 1 pipe:copy (reading)\n");
    }
}
