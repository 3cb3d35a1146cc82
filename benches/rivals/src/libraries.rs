//! Libraries that do one of the steps: crates, and Intel's ISA-L where its shared library is installed.

use std::ffi::{CStr, c_int, c_void};
use std::sync::LazyLock;

/// A library's function over a buffer that is only read.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// The library and what it does.
    pub name: &'static str,
    /// The result, as the step that it is compared with reports it.
    pub run: fn(&[u8]) -> u32,
}

/// The CRC register (before the final complement) after more bytes, by the `crc-fast` crate.
pub fn crc32c_more(state: u32, bytes: &[u8]) -> u32 {
    use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};
    let mut digest = Digest::new_with_init_state(Crc32Iscsi, u64::from(state));
    digest.update(bytes);
    digest.get_state() as u32
}

/// Adler-32 after more bytes, by the `simd-adler32` crate.
pub fn adler32_more(state: u32, bytes: &[u8]) -> u32 {
    let mut adler = simd_adler32::Adler32::from_checksum(state);
    adler.write(bytes);
    adler.finish()
}

/// CRC32C, by everyone who is here.
pub fn crc32c() -> Vec<Alone> {
    let mut all = vec![Alone { name: "crc-fast alone", run: |bytes| crc_fast::crc32_iscsi(bytes) }];
    if ISA_L.crc32c.is_some() {
        all.push(Alone {
            name: "ISA-L alone",
            run: |bytes| match ISA_L.crc32c {
                // SAFETY: the function reads as many bytes as it is told; the prototype is that of
                // `isa-l/crc.h`.
                Some(crc) => !unsafe { crc(bytes.as_ptr(), length(bytes), u32::MAX) },
                None => 0,
            },
        });
    }
    all
}

/// CRC32C by libraries' functions that keep to products of 128 bits, or do without.
pub fn crc32c_narrow() -> Vec<Alone> {
    let mut all = vec![Alone { name: "crc32c alone", run: crc32c::crc32c }];
    if ISA_L.crc32c_narrow.is_some() {
        all.push(Alone {
            name: "ISA-L alone, 128 bits",
            run: |bytes| match ISA_L.crc32c_narrow {
                // SAFETY: as above. The library has it for processors with `crc32` and PCLMULQDQ, which all
                // have that it is measured on.
                Some(crc) => !unsafe { crc(bytes.as_ptr(), length(bytes), u32::MAX) },
                None => 0,
            },
        });
    }
    all
}

/// CRC-32 of zlib, which is as much work: not comparable by its result.
pub fn crc32() -> Vec<Alone> {
    vec![
        Alone { name: "crc32fast alone (CRC-32)", run: crc32fast::hash },
        Alone { name: "crc-fast alone (CRC-32)", run: |bytes| crc_fast::crc32_iso_hdlc(bytes) },
    ]
}

/// Adler-32, by everyone who is here.
pub fn adler32() -> Vec<Alone> {
    let mut all = vec![Alone { name: "simd-adler32 alone", run: |bytes| simd_adler32::adler32(&bytes) }];
    if ISA_L.adler32.is_some() {
        all.push(Alone {
            name: "ISA-L alone",
            run: |bytes| match ISA_L.adler32 {
                // SAFETY: the function reads as many bytes as it is told; the prototype is that of
                // `isa-l/igzip_lib.h`.
                Some(adler) => unsafe { adler(1, bytes.as_ptr(), bytes.len() as u64) },
                None => 0,
            },
        });
    }
    all
}

/// The Internet checksum, not complemented.
pub fn inet() -> Vec<Alone> {
    vec![Alone {
        name: "internet-checksum alone",
        run: |bytes| u32::from(!u16::from_be_bytes(internet_checksum::checksum(bytes))),
    }]
}

fn length(bytes: &[u8]) -> c_int {
    // Longer buffers do not occur, see `MAX_LEN`.
    c_int::try_from(bytes.len()).unwrap_or(c_int::MAX)
}

/// Functions of ISA-L, found when first asked for: a build does not need the library, nor a machine.
struct IsaL {
    crc32c: Option<unsafe extern "C" fn(*const u8, c_int, u32) -> u32>,
    /// What the function before chooses on a processor without AVX-512.
    crc32c_narrow: Option<unsafe extern "C" fn(*const u8, c_int, u32) -> u32>,
    adler32: Option<unsafe extern "C" fn(u32, *const u8, u64) -> u32>,
    t10dif_copy: Option<unsafe extern "C" fn(u16, *mut u8, *const u8, u64) -> u16>,
}

/// Copies to a destination as long as the source, and gives a sum of what it copied.
pub type CopyAndSum = fn(&[u8], &mut [u8]) -> u16;

/// Copies and gives CRC-16/T10-DIF of what it copied, by ISA-L where it is installed.
pub fn t10dif_copy() -> Option<CopyAndSum> {
    ISA_L.t10dif_copy?;
    Some(|src, dst| match ISA_L.t10dif_copy {
        Some(copy) if dst.len() >= src.len() => {
            // SAFETY: the function reads and writes as many bytes as it is told; the prototype is that of
            // `isa-l/crc.h`.
            unsafe { copy(0, dst.as_mut_ptr(), src.as_ptr(), src.len() as u64) }
        }
        _ => 0,
    })
}

static ISA_L: LazyLock<IsaL> = LazyLock::new(|| {
    // SAFETY: loading a system library runs its constructors; ISA-L's only choose functions by processor.
    let library = unsafe { libc::dlopen(c"libisal.so.2".as_ptr(), libc::RTLD_NOW) };
    let symbol = |name: &CStr| -> *mut c_void {
        if library.is_null() {
            return std::ptr::null_mut();
        }
        // SAFETY: the handle is open and stays so; the name is a C string.
        unsafe { libc::dlsym(library, name.as_ptr()) }
    };
    // SAFETY: null becomes `None`, and the types are those of the library's headers, version 2.
    unsafe {
        IsaL {
            crc32c: std::mem::transmute::<
                *mut c_void,
                Option<unsafe extern "C" fn(*const u8, c_int, u32) -> u32>,
            >(symbol(c"crc32_iscsi")),
            crc32c_narrow: std::mem::transmute::<
                *mut c_void,
                Option<unsafe extern "C" fn(*const u8, c_int, u32) -> u32>,
            >(symbol(c"crc32_iscsi_01")),
            adler32: std::mem::transmute::<
                *mut c_void,
                Option<unsafe extern "C" fn(u32, *const u8, u64) -> u32>,
            >(symbol(c"isal_adler32")),
            t10dif_copy: std::mem::transmute::<
                *mut c_void,
                Option<unsafe extern "C" fn(u16, *mut u8, *const u8, u64) -> u16>,
            >(symbol(c"crc16_t10dif_copy")),
        }
    }
});
