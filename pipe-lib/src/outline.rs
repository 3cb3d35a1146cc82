//! Lines of which plans in words are made: what the loop of a pass does, told by who makes it.

use crate::ir::{Op, Value};
use std::fmt::{self, Write as _};

/// A heading and what stands beside it; without one, what stands below the line before.
pub(crate) fn heading(f: &mut String, heading: &str, text: impl fmt::Display) -> fmt::Result {
    if heading.is_empty() {
        writeln!(f, "               {text}")
    } else {
        writeln!(f, "  {heading:<10} {text}")
    }
}

/// A number of bytes.
pub(crate) fn bytes(count: usize) -> String {
    format!("{count} byte{}", if count == 1 { "" } else { "s" })
}

/// An operation and the values that it takes, `shown` in some way.
pub(crate) fn operation(op: &Op, shown: impl Fn(Value) -> String) -> String {
    let operands: Vec<String> = op.operands().map(shown).collect();
    let name = match op {
        Op::In => return "the loop word as read".into(),
        Op::State(state) => return format!("state {}", state.0),
        Op::Param(param) => return format!("parameter {}", param.0),
        Op::Const(value) => return format!("{value:#x}"),
        Op::Pos => return "pos".into(),
        Op::Unary(op, _) => op.name(),
        Op::Binary(op, ..) => op.name(),
        Op::Compare(op, ..) => op.name(),
        Op::Select { .. } => "sel",
        Op::Modular(op, ..) => op.name(),
        Op::Convert(op, _) => op.name(),
        Op::Lookup(table, _) => return format!("lookup table {}, {}", table.0, operands.join(", ")),
        Op::Crc(op, ..) => op.name(),
        Op::WideUnary(op, _) => op.name(),
        Op::WideBinary(op, ..) => op.name(),
    };
    format!("{name} {}", operands.join(", "))
}
