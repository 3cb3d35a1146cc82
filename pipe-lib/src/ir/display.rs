//! The IR as text, for `pipec inspect --emit ir` and for golden tests. Made to be read, not to be parsed.
//!
//! ```text
//! pipe inet_cksum : u16be tail zero
//!   state 0 sum: u16 = 0x0
//! body
//!   %0: u16 = in
//!   %1: u16 = state sum
//!   %2: u16 = addc %1, %0
//!   next sum = %2
//! finish
//!   %0: u16 = state sum
//!   %1: u16 = not %0
//!   export sum = %0
//!   export cksum = %1
//! ```

use super::frame::{Field, Frame, Term};
use super::layout::Layout;
use super::op::{Op, Value};
use super::pipe::{Block, Pipe, StateInit};
use std::fmt;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipe {} : {}", self.name, self.input)?;
        if self.output != self.input {
            write!(f, " -> {}", self.output)?;
        }
        if self.declared.commutative {
            f.write_str(" commutative")?;
        }
        if self.declared.nomod {
            f.write_str(" nomod")?;
        }
        writeln!(f, " tail {}", self.tail.name())?;
        if let Some(digest) = self.digest {
            writeln!(f, "  digest {} of another crate", digest.title())?;
        }
        for param in &self.params {
            write!(f, "  param {}: {}", param.name, param.ty)?;
            match param.default {
                Some(default) => writeln!(f, " = {default:#x}")?,
                None => writeln!(f)?,
            }
        }
        for state in &self.states {
            let secret = if state.secret { "secret " } else { "" };
            write!(f, "  {secret}state {}: {} = ", state.name, state.ty)?;
            match state.init {
                StateInit::Const(value) => writeln!(f, "{value:#x}")?,
                StateInit::Param(id) => match self.params.get(id.0 as usize) {
                    Some(param) => writeln!(f, "{}", param.name)?,
                    None => writeln!(f, "param {}", id.0)?,
                },
            }
        }
        for table in &self.tables {
            const SHOWN: usize = 4;
            let shown: Vec<String> =
                table.values.iter().take(SHOWN).map(|value| format!("{value:#x}")).collect();
            let more = if table.values.len() > SHOWN { ", .." } else { "" };
            let (name, ty, len) = (&table.name, table.ty, table.values.len());
            writeln!(f, "  table {name}: {ty} x {len} = [{}{more}]", shown.join(", "))?;
        }
        writeln!(f, "body")?;
        self.fmt_block(&self.body, f)?;
        if let Some(out) = self.out {
            writeln!(f, "  out {out}")?;
        }
        for (state, next) in self.states.iter().zip(&self.next) {
            writeln!(f, "  next {} = {next}", state.name)?;
        }
        if !self.finish.insts.is_empty() || !self.exports.is_empty() {
            writeln!(f, "finish")?;
            self.fmt_block(&self.finish, f)?;
            for export in &self.exports {
                writeln!(f, "  export {} = {}", export.name, export.value)?;
            }
        }
        Ok(())
    }
}

impl Pipe {
    fn fmt_block(&self, block: &Block, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (value, inst) in block.iter() {
            writeln!(f, "  {value}: {} = {}", inst.ty, self.op_text(inst.op))?;
        }
        Ok(())
    }

    /// An operation with the names that the pipe gives to states, parameters and tables.
    pub fn op_text(&self, op: Op) -> String {
        let named = |name: Option<&String>, id: u32| name.cloned().unwrap_or_else(|| format!("#{id}"));
        match op {
            Op::In => "in".to_string(),
            Op::Pos => "pos".to_string(),
            Op::State(id) => {
                format!("state {}", named(self.states.get(id.0 as usize).map(|state| &state.name), id.0))
            }
            Op::Param(id) => {
                format!("param {}", named(self.params.get(id.0 as usize).map(|param| &param.name), id.0))
            }
            Op::Const(value) => format!("const {value:#x}"),
            Op::Unary(op, a) => format!("{} {a}", op.name()),
            Op::Binary(op, a, b) => format!("{} {a}, {b}", op.name()),
            Op::Compare(op, a, b) => format!("{} {a}, {b}", op.name()),
            Op::Select { cond, then, otherwise } => format!("sel {cond}, {then}, {otherwise}"),
            Op::Modular(op, a, b, m) => format!("{} {a}, {b}, {m}", op.name()),
            Op::Convert(op, a) => format!("{} {a}", op.name()),
            Op::Lookup(id, index) => {
                let table = named(self.tables.get(id.0 as usize).map(|table| &table.name), id.0);
                format!("lookup {table}, {index}")
            }
            Op::WideUnary(op, a) => format!("{} {a}", op.name()),
            Op::WideBinary(op, a, b) => format!("{} {a}, {b}", op.name()),
            Op::Crc(op, acc, x) => format!("{} {acc}, {x}", op.name()),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}", self.name)?;
        for (at, param) in self.params.iter().enumerate() {
            write!(f, "{}{}: {}", if at == 0 { "(" } else { ", " }, param.name, param.ty)?;
            if let Some(default) = param.default {
                write!(f, " = {default}")?;
            }
        }
        write!(f, "{} {{ ", if self.params.is_empty() { "" } else { ")" })?;
        self.fmt_fields(&self.head, f)?;
        match self.data {
            Some(data) => write!(f, "data {data} ")?,
            None => f.write_str("data ")?,
        }
        self.fmt_fields(&self.foot, f)?;
        f.write_str(if self.whole { "whole }" } else { "}" })
    }
}

impl Frame {
    fn fmt_fields(&self, fields: &[Field], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for field in fields {
            write!(f, "{} ", self.field_text(field))?;
        }
        Ok(())
    }

    /// A field as the language writes it.
    pub fn field_text(&self, field: &Field) -> String {
        let (gauge, sum) = match field {
            Field::Gap(bytes) => return format!("gap {bytes}"),
            Field::Bytes(bytes) => {
                let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                return format!("put x\"{}\"", digits.join(" "));
            }
            Field::Digest { bytes, export } => return format!("put bytes{bytes} {export}"),
            Field::Put { gauge, sum } => (gauge, sum),
        };
        let term = |term: &Term| match term {
            Term::Const(value) => format!("{value:#x}"),
            Term::Param(id) => {
                self.params.get(id.0 as usize).map_or("?".to_string(), |param| param.name.clone())
            }
            Term::Index => "index".to_string(),
            Term::Length => "length".to_string(),
            Term::Export(name) => name.clone(),
        };
        format!("put {gauge} {}", sum.iter().map(term).collect::<Vec<_>>().join(" + "))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layout {} {{", self.name)?;
        if let Some(stripe) = self.stripe {
            write!(f, " data {} gap {}", stripe.data, stripe.gap)?;
        }
        if let Some(store) = self.store {
            write!(f, " store {store}")?;
        }
        if self.fixed {
            f.write_str(" fixed")?;
        }
        if self.pad > 0 {
            write!(f, " pad {}", self.pad)?;
        }
        f.write_str(" }")
    }
}
