//! What a caller sees of emitted code: names and places of registers and exports.

use crate::compose::Composition;
use crate::ir::{StateInit, Tail, Ty};
use std::collections::HashSet;

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
    /// Bytes of which a length has to be a multiple.
    pub(super) reject_word: usize,
    /// In the order of the structure, behind the offset in the stream.
    pub(super) registers: Vec<InterfaceField>,
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
}

impl Interface {
    pub(super) fn new(composition: &Composition, name: &str) -> Interface {
        let (mut registers, mut exports) = (Vec::new(), Vec::new());
        let mut taken = [HashSet::from(["pos".to_owned()]), HashSet::new()];
        let mut end = 0;
        for stage in &composition.stages {
            for state in &stage.pipe.states {
                let full_name = format!("{}.{}", stage.name, state.name);
                let name = member(&full_name, &mut taken[0]);
                let initial = match state.init {
                    StateInit::Const(value) => value,
                    StateInit::Param(_) => 0,
                };
                let offset = 8 + 8 * registers.len();
                registers.push(InterfaceField { name, full_name, ty: state.ty, initial, offset });
            }
            for export in &stage.pipe.exports {
                let full_name = format!("{}.{}", stage.name, export.name);
                let name = member(&full_name, &mut taken[1]);
                let ty = stage.pipe.finish.ty(export.value);
                let offset = usize::next_multiple_of(end, ty.bytes());
                end = offset + ty.bytes();
                exports.push(InterfaceField { name, full_name, ty, initial: 0, offset });
            }
        }
        let rejecting = composition.stages.iter().filter(|stage| stage.pipe.tail == Tail::Reject);
        Interface {
            name: name.to_owned(),
            stages: composition
                .stages
                .iter()
                .map(|stage| match stage.name == stage.pipe.name {
                    true => stage.name.clone(),
                    false => format!("{} as {}", stage.pipe.name, stage.name),
                })
                .collect(),
            modifies: composition.modifies(),
            gauge: composition.gauge(),
            reject_word: rejecting.map(|stage| stage.pipe.word_bytes()).max().unwrap_or(1),
            registers,
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
