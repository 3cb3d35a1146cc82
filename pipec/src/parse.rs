//! Values on the command line: numbers, sizes, backends, assignments.

use pipe_lib::ir::Ty;
use pipe_lib::{Backend, Features};

/// A number as the pipe language writes it: decimal, `0x`, `0o` or `0b`, with underscores.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let (digits, radix) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ => (&*digits, 10),
    };
    u64::from_str_radix(digits, radix).map_err(|error| format!("`{text}` is no number of 64 bits: {error}"))
}

/// A number of bytes, with `K`, `M` or `G` for powers of 1024.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let count = usize::try_from(number(digits)?).map_err(|error| error.to_string())?;
    count.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

/// The size of a chunk: at least a byte, at most 1 GiB.
pub(crate) fn chunk(text: &str) -> Result<usize, String> {
    match size(text)? {
        bytes @ 1..=0x4000_0000 => Ok(bytes),
        _ => Err("a chunk has from 1 byte to 1G".to_owned()),
    }
}

/// What a register is set to, as `set` in a test of the pipe language writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Number(u64),
    /// As many less than zero, in two's complement.
    Minus(u64),
    Bool(bool),
}

impl Setting {
    fn parse(text: &str) -> Result<Setting, String> {
        Ok(match text {
            "true" => Setting::Bool(true),
            "false" => Setting::Bool(false),
            _ => match text.strip_prefix('-') {
                Some(digits) => Setting::Minus(number(digits)?),
                None => Setting::Number(number(text)?),
            },
        })
    }

    /// The value in a register of type `ty`; `None` if it has no such value.
    pub(crate) const fn of_type(self, ty: Ty) -> Option<u64> {
        match self {
            // What is too wide is for the register to say.
            Setting::Number(value) => Some(value),
            Setting::Minus(0) => Some(0),
            Setting::Minus(value) if matches!(ty, Ty::Bool) || value - 1 > ty.mask() >> 1 => None,
            Setting::Minus(value) => Some(value.wrapping_neg() & ty.mask()),
            Setting::Bool(value) if matches!(ty, Ty::Bool) => Some(value as u64),
            Setting::Bool(_) => None,
        }
    }
}

/// `INST.REG=VALUE`, or `REG=VALUE` for a register that one instance alone has.
pub(crate) fn assignment(text: &str) -> Result<(String, Setting), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not INST.REG=VALUE or REG=VALUE"))?;
    Ok((name.trim().to_owned(), Setting::parse(value.trim())?))
}

/// Instructions that the native backend may use.
pub(crate) fn features(text: &str) -> Result<Features, String> {
    Features::named(text).map_err(|error| error.to_string())
}

/// The name of a backend.
pub(crate) fn backend(text: &str) -> Result<Backend, String> {
    Backend::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Backend::ALL.iter().map(|backend| backend.name()).collect();
        format!("there are the backends {}", names.join(", "))
    })
}
