//! Machine code as text that is the same on every machine and in every run.

use crate::backend::Listed;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Formatter as _, Instruction, IntelFormatter, Mnemonic,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Instructions of a function up to which it is kept as it is; of a longer one, a digest and which
/// instructions it has.
const MAX_LISTED: usize = 200;

/// A function: its size and digest, and its instructions if `listed`.
pub(super) fn function(of: &Listed<'_>, listed: bool) -> String {
    // Constants are known by their place before the function.
    let instructions: Vec<Instruction> =
        Decoder::with_ip(64, of.bytes, of.constants.len() as u64, DecoderOptions::NONE).into_iter().collect();
    let code = instructions_as_text(&instructions);
    let constants = constants_as_text(of.constants);
    let mut text = format!("---- {}\n", of.what);
    let _ = writeln!(
        text,
        "{} instructions, {} bytes of constants, digest {:016x}",
        instructions.len(),
        of.constants.len(),
        digest(&[&code, &constants])
    );
    if listed && instructions.len() <= MAX_LISTED {
        text += &constants;
        text += &code;
    } else if listed {
        text += &histogram(&instructions);
    }
    text
}

/// The instructions without addresses: jumps go to labels.
fn instructions_as_text(instructions: &[Instruction]) -> String {
    let is_jump = |inst: &Instruction| {
        matches!(inst.flow_control(), FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch)
    };
    let targets: BTreeSet<u64> =
        instructions.iter().filter(|inst| is_jump(inst)).map(Instruction::near_branch_target).collect();
    let label = |at: u64| targets.range(..at).count();
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    let mut text = String::new();
    for inst in instructions {
        if targets.contains(&inst.ip()) {
            let _ = writeln!(text, "L{}:", label(inst.ip()));
        }
        text += "  ";
        if is_jump(inst) {
            let _ = writeln!(text, "{:?} L{}", inst.mnemonic(), label(inst.near_branch_target()));
        } else if is_address(inst) {
            let _ = writeln!(text, "mov {:?}, ADDRESS", inst.op0_register());
        } else {
            formatter.format(inst, &mut text);
            text.push('\n');
        }
    }
    text
}

/// Whether the instruction loads where something lies in this process: a number as only addresses are.
fn is_address(inst: &Instruction) -> bool {
    inst.code() == Code::Mov_r64_imm64 && (1 << 32..1 << 47).contains(&inst.immediate64())
}

/// Constants, 16 bytes a line; lines that are the same as the one before are counted.
fn constants_as_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut lines = bytes.chunks(16).peekable();
    while let Some(line) = lines.next() {
        let mut count = 1;
        while lines.next_if_eq(&line).is_some() {
            count += 1;
        }
        for byte in line {
            let _ = write!(text, "{byte:02x}");
        }
        text += &if count > 1 { format!(" x {count}\n") } else { "\n".to_owned() };
    }
    text
}

/// How often there is which instruction.
fn histogram(instructions: &[Instruction]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for inst in instructions.iter().filter(|inst| inst.mnemonic() != Mnemonic::Nop) {
        *counts.entry(format!("{:?}", inst.mnemonic()).to_lowercase()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    counts.chunks(10).map(|some| format!("  {}\n", some.join(", "))).collect()
}

/// FNV-1a.
fn digest(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
