//! How C and Rust call emitted code.

use super::interface::{Interface, InterfaceField};
use crate::backend::cranelift::object::outcome;
use crate::ir::Ty;
use std::fmt::Write as _;

/// What the function gives, with what it means.
const OUTCOMES: [(i64, &str, &str); 5] = [
    (outcome::OK, "OK", "done"),
    (
        outcome::BAD_LENGTH,
        "BAD_LENGTH",
        "the length is no multiple of a word that a stage rejects the rest of",
    ),
    (outcome::OVERLAP, "OVERLAP", "source and destination overlap in part"),
    (outcome::NO_DESTINATION, "NO_DESTINATION", "there is something to write, and nowhere to"),
    (outcome::ENDED, "ENDED", "the stream has ended: its last piece was no multiple of the word"),
];

fn c_type(ty: Ty) -> &'static str {
    match ty {
        Ty::Bool | Ty::U8 => "uint8_t",
        Ty::U16 => "uint16_t",
        Ty::U32 => "uint32_t",
        // Of 128 bits there are none.
        Ty::U64 | Ty::U128 => "uint64_t",
    }
}

fn rust_type(ty: Ty) -> &'static str {
    c_type(ty).strip_suffix("_t").map_or("u64", |name| match name {
        "uint8" => "u8",
        "uint16" => "u16",
        "uint32" => "u32",
        _ => "u64",
    })
}

/// What the contract is, a sentence a line.
fn contract(interface: &Interface) -> Vec<String> {
    let Interface { modifies, gauge, reject_word, .. } = interface;
    let mut lines = vec![
        "Source and destination may have any alignment; they are the same or do not overlap.".to_owned(),
    ];
    lines.push(match modifies {
        true => "Writes `len` bytes to the destination.".to_owned(),
        false => "Passes the bytes on unchanged; a null destination is read only.".to_owned(),
    });
    lines.push(match reject_word {
        1 => "The length may be any.".to_owned(),
        word => format!("The length has to be a multiple of {word} bytes."),
    });
    lines.push(match gauge {
        1 => "A stream may be given in pieces of any length, with one state.".to_owned(),
        gauge => match interface.cut_window {
            None => format!(
                "A stream may be given in pieces, with one state: multiples of {gauge} bytes, but for the last \
                 one."
            ),
            Some(window) => format!(
                "A stream may be given in pieces, with one state: all pieces but the last end where a window of \
                 {window} does, or a multiple of {gauge} bytes from a window's start."
            ),
        },
    });
    if interface.exports.iter().any(|export| export.window.is_some()) {
        lines.push(
            "Windows begin anew at multiples of their length. A list gets one result for each window that the \
             call is in: the first may have begun before, the last may not be whole yet."
                .to_owned(),
        );
    }
    lines.push("Without a state (null) the stream begins and ends with the call.".to_owned());
    lines
}

/// The header.
pub(super) fn c_header(interface: &Interface) -> String {
    let Interface { name, stages, registers, firsts, exports, .. } = interface;
    let guard = format!("PIPE_{}_H", name.to_ascii_uppercase());
    let mut text = String::new();
    let t = &mut text;
    // Writing to a string does not fail.
    let _ = writeln!(t, "/* {} */", stages.join(" | "));
    let _ = writeln!(t, "#ifndef {guard}\n#define {guard}\n\n#include <stddef.h>\n#include <stdint.h>\n");
    let _ = writeln!(t, "#ifdef __cplusplus\nextern \"C\" {{\n#endif\n");
    let _ = writeln!(t, "#ifndef PIPE_OUTCOMES\n#define PIPE_OUTCOMES\nenum pipe_outcome {{");
    for (number, named, what) in OUTCOMES {
        let _ = writeln!(t, "    PIPE_{named} = {number}, /* {what} */");
    }
    let _ = writeln!(t, "}};\n#endif\n");
    let _ = writeln!(
        t,
        "/* How far a stream has come. What a register's type has no bits for is not looked at. */"
    );
    let _ = writeln!(t, "struct {name}_state {{\n    uint64_t pos; /* bytes so far */");
    for register in registers {
        let _ = writeln!(t, "    uint64_t {}; /* {}: {} */", register.name, register.full_name, register.ty);
    }
    for first in firsts {
        let _ = writeln!(t, "    uint64_t {}; /* {} where a window begins */", first.name, first.full_name);
    }
    let _ = writeln!(t, "}};\n");
    let initial: Vec<String> =
        registers.iter().chain(firsts).map(|register| format!(", {:#x}u", register.initial)).collect();
    let _ = writeln!(t, "/* At the start of a stream. */");
    let _ = writeln!(t, "#define {}_STATE_INITIAL {{ 0{} }}\n", name.to_ascii_uppercase(), initial.concat());
    if exports.is_empty() {
        let _ = writeln!(t, "/* There are no exports. */\nstruct {name}_exports;\n");
    } else {
        let _ = writeln!(t, "struct {name}_exports {{");
        for InterfaceField { name, full_name, ty, window, .. } in exports {
            let _ = match window {
                None => writeln!(t, "    {} {name}; /* {full_name} */", c_type(*ty)),
                Some(window) => writeln!(
                    t,
                    "    {} *{name}; /* {full_name} of each {window} bytes: room for PIPE_WINDOWS of them, or \
                     null */",
                    c_type(*ty)
                ),
            };
        }
        let _ = writeln!(t, "}};\n");
        if exports.iter().any(|export| export.window.is_some()) {
            let _ = writeln!(
                t,
                "/* How many windows of that length a call is in, of `len` bytes from offset `pos` on. */\n\
                 #ifndef PIPE_WINDOWS\n\
                 #define PIPE_WINDOWS(pos, len, window) \\\n    (((uint64_t)(pos) % (window) + (len)) / (window) \
                 + (((uint64_t)(pos) % (window) + (len)) % (window) != 0))\n#endif\n"
            );
        }
    }
    let _ = writeln!(t, "/* Gives an `enum pipe_outcome`; if it is not PIPE_OK, nothing was touched.");
    contract(interface).iter().for_each(|line| {
        let _ = writeln!(t, " * {line}");
    });
    // Which of the two sentences there is need of.
    let (lists, numbers): (Vec<_>, Vec<_>) = exports.iter().partition(|export| export.window.is_some());
    if !numbers.is_empty() || lists.is_empty() {
        let _ = writeln!(t, " * Exports (unless null) are those of the stream as far as it has come.");
    }
    if !lists.is_empty() {
        let _ = writeln!(t, " * Lists (unless null) are those of the windows that this call is in.");
    }
    let _ = writeln!(t, " */");
    let _ = writeln!(
        t,
        "int {name}(struct {name}_state *state, const void *src, void *dst, size_t len,\n    struct \
         {name}_exports *exports);\n"
    );
    let _ = writeln!(t, "#ifdef __cplusplus\n}}\n#endif\n\n#endif");
    text
}

/// `snake_case` in camel case.
fn camel(name: &str) -> String {
    let capitalised = |part: &str| {
        let (first, rest) = part.split_at(part.len().min(1));
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    name.split('_').map(capitalised).collect()
}

/// Exports as the code writes them, and as the caller gets them.
fn rust_exports(t: &mut String, Interface { exports, .. }: &Interface, exports_type: &str) {
    let copy = if exports.iter().any(|export| export.window.is_some()) { "" } else { "Copy, " };
    let _ = writeln!(t, "/// Exports.\n#[derive(Clone, {copy}Debug, Default, PartialEq, Eq)]");
    let _ = writeln!(t, "pub struct {exports_type} {{");
    for InterfaceField { name, full_name, ty, window, .. } in exports {
        let ty = rust_type(*ty);
        let _ = match window {
            None => writeln!(t, "    /// `{full_name}`\n    pub {name}: {ty},"),
            Some(window) => writeln!(
                t,
                "    /// `{full_name}` of each {window} bytes that the call is in\n    pub {name}: Vec<{ty}>,"
            ),
        };
    }
    let _ = writeln!(t, "}}\n\n#[repr(C)]\nstruct Raw{exports_type} {{");
    for InterfaceField { name, ty, window, .. } in exports {
        let pointer = if window.is_some() { "*mut " } else { "" };
        let _ = writeln!(t, "    {name}: {pointer}{},", rust_type(*ty));
    }
    let _ = writeln!(t, "}}\n");
}

/// The module.
pub(super) fn rust_module(interface: &Interface) -> String {
    let Interface { name, stages, registers, firsts, exports, modifies, .. } = interface;
    let (state_type, exports_type) = (format!("{}State", camel(name)), format!("{}Exports", camel(name)));
    let mut text = String::new();
    let t = &mut text;
    let _ = writeln!(t, "// {}", stages.join(" | "));
    let _ = writeln!(t, "\n/// Why nothing was touched.\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]");
    let _ = writeln!(t, "pub enum {}Error {{", camel(name));
    for (_, named, what) in &OUTCOMES[1..] {
        let variant = camel(&named.to_ascii_lowercase());
        let _ = writeln!(t, "    /// {what}\n    {variant},");
    }
    let _ = writeln!(
        t,
        "}}\n\n/// How far a stream has come. What a register's type has no bits for is not looked at."
    );
    let _ = writeln!(
        t,
        "#[repr(C)]\n#[derive(Clone, Debug)]\npub struct {state_type} {{\n    /// Bytes so far.\n    pub pos: u64,"
    );
    for register in registers {
        let _ =
            writeln!(t, "    /// `{}`: {}\n    pub {}: u64,", register.full_name, register.ty, register.name);
    }
    for InterfaceField { name, full_name, .. } in firsts {
        let _ = writeln!(t, "    /// `{full_name}` where a window begins.\n    pub {name}: u64,");
    }
    let _ = writeln!(t, "}}\n\nimpl {state_type} {{\n    /// At the start of a stream.");
    let initial: Vec<String> = registers
        .iter()
        .chain(firsts)
        .map(|InterfaceField { name, initial, .. }| format!(", {name}: {initial:#x}"))
        .collect();
    let _ = writeln!(
        t,
        "    pub const INITIAL: {state_type} = {state_type} {{ pos: 0{} }};\n}}\n",
        initial.concat()
    );
    rust_exports(t, interface, &exports_type);
    let _ = writeln!(
        t,
        "unsafe extern \"C\" {{\n    #[allow(improper_ctypes)]\n    fn {name}(state: *mut {state_type}, src: *const \
         u8, dst: *mut u8, len: usize, exports: *mut Raw{exports_type}) -> i32;\n}}\n"
    );
    contract(interface).iter().for_each(|line| {
        let _ = writeln!(t, "/// {line}");
    });
    let _ = writeln!(t, "///\n/// # Panics\n/// If the destination has another length than the source.");
    let (parameter, check, dst) = match modifies {
        true => ("dst: &mut [u8]", "assert_eq!(src.len(), dst.len());", "dst.as_mut_ptr()"),
        false => (
            "dst: Option<&mut [u8]>",
            "assert!(dst.as_ref().is_none_or(|dst| src.len() == dst.len()));",
            "dst.map_or(core::ptr::null_mut(), |dst| dst.as_mut_ptr())",
        ),
    };
    let (mut lists, mut raw, mut given) = (String::new(), String::new(), String::new());
    for InterfaceField { name, ty, window, .. } in exports {
        match window {
            None => {
                let _ = write!(raw, "{name}: 0, ");
                let _ = write!(given, "{name}: exports.{name}, ");
            }
            Some(window) => {
                let _ = writeln!(
                    lists,
                    "    let mut {name}_list = vec![0 as {}; (within({window}) + src.len() as \
                     u64).div_ceil({window}) as usize];",
                    rust_type(*ty)
                );
                let _ = write!(raw, "{name}: {name}_list.as_mut_ptr(), ");
                let _ = write!(given, "{name}: {name}_list, ");
            }
        }
    }
    if !lists.is_empty() {
        let within = "    let pos = state.as_ref().map_or(0, |state| state.pos);\n    \
                      let within = |window: u64| pos % window;\n";
        lists.insert_str(0, within);
    }
    // The function is called by its path, and `Ok` too: it may be called as a local or as `Ok` is.
    let (raw, given) = (format!("Raw{exports_type} {{ {raw} }}"), format!("{exports_type} {{ {given} }}"));
    let _ = writeln!(
        t,
        "pub fn {name}_run(\n    state: Option<&mut {state_type}>,\n    src: &[u8],\n    {parameter},\n) -> \
         Result<{exports_type}, {error}> {{\n    {check}\n{lists}    let mut exports = {raw};\n    \
         let state = state.map_or(core::ptr::null_mut(), |state| state as *mut _);\n    \
         // SAFETY: the bytes are readable and writable, and the structures laid out as the code has them.\n    \
         match unsafe {{ self::{name}(state, src.as_ptr(), {dst}, src.len(), &mut exports) }} {{\n        \
         0 => Result::Ok({given}),",
        error = format_args!("{}Error", camel(name)),
    );
    for (number, named, _) in &OUTCOMES[1..] {
        let pattern = if *number == outcome::ENDED { "_".to_owned() } else { number.to_string() };
        let variant = camel(&named.to_ascii_lowercase());
        let _ = writeln!(t, "        {pattern} => Result::Err({}Error::{variant}),", camel(name));
    }
    let _ = writeln!(t, "    }}\n}}");
    text
}
