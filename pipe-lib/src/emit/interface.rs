//! What a caller sees of emitted code: names and places of registers and exports.

use crate::compose::Composition;
use crate::ir::{StateInit, Tail, Ty};
use std::collections::HashSet;
use std::num::NonZeroU64;

/// One function and its two structures.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    /// The stages, for people.
    pub(super) stages: Vec<String>,
    /// Whether some stage writes words.
    pub(super) modifies: bool,
    /// Bytes of the longest word.
    pub(super) gauge: usize,
    /// The window at whose end a word may be cut, if there is one.
    pub(super) cut_window: Option<u64>,
    /// Bytes of which a length has to be a multiple.
    pub(super) reject_word: usize,
    /// In the order of the structure, behind the offset in the stream.
    pub(super) registers: Vec<InterfaceField>,
    /// Behind them, what the registers of stages with windows are at the start of each.
    pub(super) firsts: Vec<InterfaceField>,
    pub(super) exports: Vec<InterfaceField>,
}

/// A register or an export.
#[derive(Debug)]
pub(super) struct InterfaceField {
    /// As a member.
    pub(super) name: String,
    /// In the language: `instance.name`.
    pub(super) full_name: String,
    pub(super) ty: Ty,
    /// What a register starts from.
    pub(super) initial: u64,
    /// Bytes from the start of the structure, as C lays it out.
    pub(super) offset: usize,
    /// The window of the stage, if it has one: an export then is a place for one of each.
    pub(super) window: Option<u64>,
}

impl Interface {
    pub(super) fn new(composition: &Composition, name: &str) -> Interface {
        let (mut registers, mut exports) = (Vec::<InterfaceField>::new(), Vec::new());
        let mut windowed = Vec::new();
        let mut taken = [HashSet::from(["pos".to_owned()]), HashSet::new()];
        let mut end = 0;
        for stage in &composition.stages {
            let window = stage.window.map(NonZeroU64::get);
            if window.is_some() {
                windowed.extend(registers.len()..registers.len() + stage.pipe.states.len());
            }
            for state in &stage.pipe.states {
                let full_name = format!("{}.{}", stage.name, state.name);
                let name = member(&full_name, &mut taken[0]);
                let initial = match state.init {
                    StateInit::Const(value) => value,
                    StateInit::Param(_) => 0,
                };
                let offset = 8 + 8 * registers.len();
                registers.push(InterfaceField { name, full_name, ty: state.ty, initial, offset, window });
            }
            for export in &stage.pipe.exports {
                let full_name = format!("{}.{}", stage.name, export.name);
                let name = member(&full_name, &mut taken[1]);
                let ty = stage.pipe.finish.ty(export.value);
                let bytes = if window.is_some() { 8 } else { ty.bytes() };
                let offset = usize::next_multiple_of(end, bytes);
                end = offset + bytes;
                exports.push(InterfaceField { name, full_name, ty, initial: 0, offset, window });
            }
        }
        let firsts = (registers.len()..).zip(windowed).map(|(place, register)| {
            let InterfaceField { full_name, ty, initial, window, .. } = &registers[register];
            let name = member(&format!("{full_name}_first"), &mut taken[0]);
            let (full_name, ty, initial, window) = (full_name.clone(), *ty, *initial, *window);
            InterfaceField { name, full_name, ty, initial, offset: 8 + 8 * place, window }
        });
        let firsts = firsts.collect();
        let rejecting = composition.stages.iter().filter(|stage| stage.pipe.tail == Tail::Reject);
        Interface {
            name: name.to_owned(),
            stages: composition
                .stages
                .iter()
                .map(|stage| {
                    let name = match stage.name == stage.pipe.name {
                        true => stage.name.clone(),
                        false => format!("{} as {}", stage.pipe.name, stage.name),
                    };
                    match stage.window {
                        None => name,
                        Some(window) => format!("{name} per {window}"),
                    }
                })
                .collect(),
            modifies: composition.modifies(),
            gauge: composition.gauge(),
            cut_window: composition
                .stages
                .iter()
                .filter_map(|stage| stage.window.map(NonZeroU64::get))
                .find(|window| window % composition.gauge() as u64 != 0),
            reject_word: rejecting.map(|stage| stage.pipe.word_bytes()).max().unwrap_or(1),
            registers,
            firsts,
            exports,
        }
    }
}

/// `instance.name` as a member that no other has: there may be an instance `a_b` with a `c` beside an `a`
/// with a `b_c`.
fn member(full_name: &str, taken: &mut HashSet<String>) -> String {
    let mut name = full_name.replace('.', "_");
    while is_keyword(&name) || !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// Whether a function of C and of Rust may be called so.
pub(super) fn is_identifier(name: &str) -> bool {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic());
    starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !is_keyword(name)
}

/// Words of C, C++ and Rust that are no names, and `main`, which is somebody else's.
fn is_keyword(name: &str) -> bool {
    const WORDS: &str = "alignas alignof and and_eq as asm async auto await bitand bitor bool box break case catch \
        char char16_t char32_t char8_t class co_await co_return co_yield compl concept const const_cast consteval \
        constexpr constinit continue crate decltype default delete do double dynamic_cast dyn else enum explicit \
        export extern false final float fn for friend gen goto if impl in inline int let long loop macro main match \
        mod move mut mutable namespace new noexcept not not_eq nullptr operator or or_eq override priv private \
        protected pub public ref register reinterpret_cast requires restrict return Self self short signed sizeof \
        static static_assert static_cast struct super switch template this thread_local throw trait true try \
        type typedef typeid typename typeof typeof_unqual union unsafe unsized unsigned use using virtual void \
        volatile wchar_t where while xor xor_eq yield";
    WORDS.split_ascii_whitespace().any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::{is_identifier, member};
    use std::collections::HashSet;

    #[test]
    fn members_are_different_and_no_keywords() {
        let mut taken = HashSet::new();
        assert_eq!(member("a.b_c", &mut taken), "a_b_c");
        assert_eq!(member("a_b.c", &mut taken), "a_b_c_");
        assert_eq!(member("static.assert", &mut taken), "static_assert_");
    }

    #[test]
    fn names_of_functions() {
        assert!(is_identifier("crc32c_v2") && is_identifier("A"));
        for name in ["", "2a", "_a", "a-b", "a b", "int", "fn", "main", "é"] {
            assert!(!is_identifier(name), "{name}");
        }
    }
}
