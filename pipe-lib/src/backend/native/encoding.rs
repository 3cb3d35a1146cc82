//! What encodings allow, asked of their names.

use iced_x86::Code;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether the last operand that is no immediate may be a vector in memory instead of a register.
///
/// The encoder's tables say so to whom asks, but make all of themselves at the first question, which takes
/// longer than a hundred compiles. An encoding's name says the same (`VEX_Vpaddd_ymm_ymm_ymmm256`), and is
/// read once.
pub(super) fn takes_memory(code: Code) -> bool {
    const UNKNOWN: u8 = 0;
    static KNOWN: LazyLock<Box<[AtomicU8]>> =
        LazyLock::new(|| Code::values().map(|_| AtomicU8::new(UNKNOWN)).collect());
    let known = &KNOWN[code as usize];
    match known.load(Ordering::Relaxed) {
        UNKNOWN => {
            let takes = named_memory(code);
            known.store(1 + u8::from(takes), Ordering::Relaxed);
            takes
        }
        found => found == 2,
    }
}

fn named_memory(code: Code) -> bool {
    let name = format!("{code:?}");
    let is_operand = |part: &&str| !part.starts_with("imm") && !matches!(*part, "sae" | "er");
    let last = name.rsplit('_').find(is_operand).unwrap_or_default();
    ["xmmm", "ymmm", "zmmm"].iter().any(|vector| last.starts_with(vector))
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::OpCodeOperandKind as Kind;

    /// Of all encodings of vectors, the names say what the encoder's own tables say.
    #[test]
    fn names_of_encodings_say_which_take_memory() {
        let (mut taking, mut others) = (0, 0);
        for code in Code::values() {
            let info = code.op_code();
            let is_immediate = |at: &u32| format!("{:?}", info.op_kind(*at)).starts_with("imm");
            let Some(last) = (0..info.op_count()).rev().find(|at| !is_immediate(at)) else { continue };
            let name = format!("{code:?}");
            if !(name.starts_with("VEX_V") || name.starts_with("EVEX_V")) {
                continue;
            }
            let takes = matches!(info.op_kind(last), Kind::zmm_or_mem | Kind::ymm_or_mem | Kind::xmm_or_mem);
            assert_eq!(takes_memory(code), takes, "{code:?}");
            *(if takes { &mut taking } else { &mut others }) += 1;
        }
        assert!(taking > 500 && others > 200, "{taking} {others}");
    }
}
