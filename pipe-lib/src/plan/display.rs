//! The plan as text, for people who have not read the code (`pipec inspect --emit plan`).

use super::rewrite::Part;
use super::schedule::{self, Kind};
use super::vector::{Accumulate, Carry, Reg, VectorBody, VectorOp};
use super::{Pass, Plan};
use crate::analyse::{Assumed, PipeFacts, Reduce, analyse, assume};
use crate::compose::{Composition, Stage};
use crate::ir::{Layout, Pipe, Stripe, Tail};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

impl Plan {
    /// The plan of `composition` (which it was made for), in words.
    pub fn describe(&self, composition: &Composition) -> String {
        self.text(composition, false)
    }

    /// The same of an engine whose passes take one word after the other, as written.
    pub fn describe_serial(&self, composition: &Composition) -> String {
        self.text(composition, true)
    }

    fn text(&self, composition: &Composition, serial: bool) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(composition, serial, &mut text);
        text
    }

    fn write(&self, composition: &Composition, serial: bool, f: &mut String) -> fmt::Result {
        if let Some(layout) = &composition.source {
            writeln!(f, "source  bytes are gathered from layout `{}`: {}", layout.name, rules(layout))?;
        }
        match &self.passes[..] {
            [] => writeln!(f, "a plain copy: no stages")?,
            [_] => writeln!(f, "one pass over the data: all stages in one loop")?,
            many => writeln!(
                f,
                "{} passes over blocks of {} bytes, which stay in the first-level cache; the first one copies, the \\
                 others work in place",
                many.len(),
                crate::drive::BLOCK
            )?,
        }
        let mut known = Known::new();
        for (index, pass) in self.passes.iter().enumerate() {
            writeln!(f)?;
            pass.write(index, composition, &mut known, serial, f)?;
        }
        if let Some(layout) = &composition.sink {
            writeln!(f, "\nsink  bytes are spread by layout `{}`: {}", layout.name, rules(layout))?;
        }
        Ok(())
    }
}

/// What a layout demands, as a phrase.
fn rules(layout: &Layout) -> String {
    let mut rules = Vec::new();
    if let Some(Stripe { data, gap }) = layout.stripe {
        rules.push(format!("runs of {data} bytes, holes of {gap}"));
    }
    if let Some(store) = layout.store {
        rules.push(format!("accesses of {store} bytes"));
    }
    if layout.fixed {
        rules.push("all to one address".to_owned());
    }
    if layout.pad > 0 {
        rules.push(format!("zeros up to {} bytes", layout.pad));
    }
    if rules.is_empty() { "contiguous memory".to_owned() } else { rules.join(", ") }
}

impl Pass {
    fn write(
        &self,
        index: usize,
        composition: &Composition,
        known: &mut Known,
        serial: bool,
        f: &mut String,
    ) -> fmt::Result {
        let stages: Vec<&Stage> = self.stages(composition).collect();
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        writeln!(f, "pass {}: {}", index + 1, names.join(" | "))?;
        writeln!(f, "  loop word  {} byte{}", self.gauge, if self.gauge == 1 { "" } else { "s" })?;
        for stage in &stages {
            write_stage(stage, known, f)?;
        }
        let rewritten = if serial { None } else { super::rewrite::rewrite(stages.iter().copied()) };
        for note in rewritten.iter().flat_map(|rewritten| &rewritten.notes) {
            writeln!(f, "  rewrite    {note}")?;
        }
        // The states of what is left, by their names in the pass.
        let all: Vec<String> = stages
            .iter()
            .flat_map(|stage| stage.pipe.states.iter().map(|state| format!("{}.{}", stage.name, state.name)))
            .collect();
        let (pipes, states): (Vec<&Pipe>, Vec<String>) = match &rewritten {
            Some(rewritten) => (
                rewritten.stages.iter().map(|pipe| &**pipe).collect(),
                rewritten.kept.iter().map(|kept| all[kept.state].clone()).collect(),
            ),
            None => (stages.iter().map(|stage| &*stage.pipe).collect(), all.clone()),
        };
        if pipes.is_empty() {
            writeln!(f, "  body       a plain copy (nothing, when reading only)")?;
            return Ok(());
        }
        let kind = schedule::kinds(pipes.iter().copied(), schedule::kind).max_by_key(|kind| *kind as u8);
        let (kind, vector) = match kind {
            _ if serial => (Kind::Serial, Err("as was asked for".to_owned())),
            kind => (kind.unwrap_or(Kind::Wide), super::vector::lower(&pipes)),
        };
        match (kind, vector) {
            (Kind::Remainder, _) => {
                writeln!(f, "  head       accumulators take the imported remainder")?;
                writeln!(
                    f,
                    "  body       wide registers multiplied without carry by x^D mod P, D bits further on"
                )?;
                writeln!(f, "  epilogue   accumulators folded into one, reduced to the remainder")?;
                writeln!(f, "  tail       bytes by table")?;
            }
            (_, Ok(body)) => write_wide(&body, &states, f)?,
            (_, Err(why)) => {
                writeln!(f, "  word after word, because of this: {why}")?;
                let fused = super::scalar::word(&pipes, self.gauge);
                writeln!(f, "  head       states into registers")?;
                writeln!(f, "  body       {} operations a loop word", fused.block.insts.len())?;
                for line in block_lines(&fused.block) {
                    writeln!(f, "               {line}")?;
                }
                writeln!(f, "  epilogue   states back to memory")?;
            }
        }
        if let Some(rewritten) = &rewritten {
            for kept in &rewritten.kept {
                if let Part::Sum(limit) = kept.part {
                    writeln!(f, "  epilogue   {} grows by its sum, up to {limit}", all[kept.state])?;
                }
            }
        }
        for link in rewritten.iter().flat_map(|rewritten| &rewritten.links) {
            let how = if link.swapped { ", bytes swapped" } else { "" };
            writeln!(f, "  epilogue   {} is {}{how}", all[link.state], all[link.from])?;
        }
        if self.gauge > 1 && kind != Kind::Remainder {
            let tail = super::scalar::tail(&pipes, self.gauge);
            writeln!(
                f,
                "  tail       the last 1 to {} bytes: {} operations without branches",
                self.gauge - 1,
                tail.block.insts.len()
            )?;
        }
        Ok(())
    }
}

/// What was proved of the pipes so far, which may have many instances.
type Known = HashMap<*const Pipe, (PipeFacts, Option<Assumed>)>;

fn write_stage(stage: &Stage, known: &mut Known, f: &mut String) -> fmt::Result {
    let pipe = &stage.pipe;
    let (facts, assumed) = known.entry(Arc::as_ptr(pipe)).or_insert_with(|| {
        let facts = analyse(pipe);
        let assumed = assume(pipe, &facts);
        (facts, assumed)
    });
    write!(f, "  stage      {}: {}", stage.name, pipe.input)?;
    if pipe.output != pipe.input {
        write!(f, " -> {}", pipe.output)?;
    }
    write!(f, ", {}", if facts.nomod() { "passes the stream unchanged" } else { "modifies" })?;
    if facts.commutative() {
        write!(f, ", words in any order")?;
    }
    if pipe.word_bytes() > 1 {
        let rule = match pipe.tail {
            Tail::Reject => "leftover bytes refused",
            Tail::Zero => "leftover bytes computed with zeros after them, passed as they are",
            Tail::Partial => "leftover bytes computed with zeros after them and written",
            Tail::Pass => "leftover bytes untouched",
        };
        write!(f, ", {rule}")?;
    }
    if let Some(window) = stage.window {
        write!(f, ", anew every {window} bytes")?;
    }
    writeln!(f)?;
    for (number, (state, known)) in pipe.states.iter().zip(&facts.states).enumerate() {
        write!(f, "               state {}: {} is ", state.name, state.ty)?;
        match assumed.as_ref().and_then(|assumed| assumed.better(number, known)) {
            Some(better) => writeln!(f, "{better}")?,
            None => writeln!(f, "{}", known.class)?,
        }
    }
    Ok(())
}

fn write_wide(body: &VectorBody, names: &[String], f: &mut String) -> fmt::Result {
    let name = |state: u32| names.get(state as usize).map_or("?", String::as_str);
    writeln!(f, "  head       {} accumulators a slot at their neutral values", body.accumulators.len())?;
    for (i, inst) in body.insts.iter().enumerate().filter(|(_, inst)| inst.op.invariant()) {
        writeln!(f, "               v{i}.{} = {}", lanes(inst.lane), operation(inst.op, names))?;
    }
    writeln!(f, "  body       for each register of stream, several registers a turn")?;
    for (i, inst) in body.insts.iter().enumerate().filter(|(_, inst)| !inst.op.invariant()) {
        writeln!(f, "               v{i}.{} = {}", lanes(inst.lane), operation(inst.op, names))?;
    }
    for acc in &body.accumulators {
        let operands: Vec<String> = acc.operands.iter().map(|Reg(reg)| format!("v{reg}")).collect();
        let how = match acc.form {
            Accumulate::Lanes => format!("{} by lanes of {} bits", acc.op, 8 * acc.lane),
            Accumulate::Sum { .. } => format!("sum of lanes of {} bits in 64-bit lanes", 8 * acc.lane),
        };
        writeln!(f, "               {} += {} ({how})", name(acc.state), operands.join(", "))?;
    }
    for carry in &body.carries {
        match carry {
            Carry::Previous { state, of, .. } => {
                writeln!(
                    f,
                    "               {} = last lane of v{}, for the next register",
                    name(*state),
                    of.0
                )?;
            }
            Carry::Onward { state, of, .. } => {
                writeln!(
                    f,
                    "               {} = first lane of v{}, for the next register",
                    name(*state),
                    of.0
                )?;
            }
            Carry::Running { state, op, .. } => {
                writeln!(f, "               {} ({op}) passes from register to register", name(*state))?;
            }
            Carry::Sums { sum, sum_of_sums, of, .. } => writeln!(
                f,
                "               {} and {}: sum of v{} and of its values so far, by weights of position",
                name(*sum),
                name(*sum_of_sums),
                of.0
            )?,
        }
    }
    match body.out {
        Some(Reg(reg)) => writeln!(f, "               store v{reg}")?,
        None => writeln!(f, "               store the register as read (nothing, when reading only)")?,
    }
    for acc in &body.accumulators {
        let swap = if acc.swapped { ", bytes swapped" } else { "" };
        let fold = match acc.op {
            Reduce::Addc => format!("folded to {} bits with end-around carry{swap}, ", acc.ty.bits()),
            Reduce::Addmod(m) => format!("reduced modulo {m}, "),
            _ => String::new(),
        };
        writeln!(
            f,
            "  epilogue   {}: slots and lanes together, {fold}then {} with the imported value",
            name(acc.state),
            acc.op
        )?;
    }
    Ok(())
}

fn lanes(lane: u8) -> String {
    format!("u{}", 8 * u32::from(lane))
}

fn operation(op: VectorOp, states: &[String]) -> String {
    let r = |reg: Reg| format!("v{}", reg.0);
    match op {
        VectorOp::Chunk => "the register as read".into(),
        VectorOp::Splat(value) => format!("{value:#x} in every lane"),
        VectorOp::Held(state) => {
            format!("{} in every lane", states.get(state as usize).map_or("?", String::as_str))
        }
        VectorOp::Phase(table) => format!("pattern {table}, by the offset in the stream"),
        VectorOp::Offset { .. } => "the offsets of the words".into(),
        VectorOp::Onward(_) => "the values at the words of the register".into(),
        VectorOp::Later { of, .. } => format!("{}, a register of words later", r(of)),
        VectorOp::Lookup(table, index) => format!("lookup table {table}, {}", r(index)),
        VectorOp::Slide { of, .. } => format!("{}, one word later", r(of)),
        VectorOp::Unary(op, a) => format!("{} {}", op.name(), r(a)),
        VectorOp::Binary(op, a, b) => format!("{} {}, {}", op.name(), r(a), r(b)),
        VectorOp::Compare(op, a, b) => format!("{} {}, {}", op.name(), r(a), r(b)),
        VectorOp::Select(c, a, b) => format!("sel {}, {}, {}", r(c), r(a), r(b)),
        VectorOp::Extend { from, high, signed } => format!(
            "{} {} half of {}",
            if signed { "sext" } else { "zext" },
            if high { "later" } else { "earlier" },
            r(from)
        ),
        VectorOp::Narrow(a, b) => format!("trunc {}, {}", r(a), r(b)),
        VectorOp::Previous { of, .. } => format!("{}, one word later", r(of)),
        VectorOp::Running { of, .. } => format!("running result over {}", r(of)),
    }
}

fn block_lines(block: &crate::ir::Block) -> Vec<String> {
    block.iter().map(|(value, inst)| format!("v{} {} = {}", value.0, inst.ty, plain(&inst.op))).collect()
}

fn plain(op: &crate::ir::Op) -> String {
    use crate::ir::Op;
    let operands: Vec<String> = op.operands().map(|value| format!("v{}", value.0)).collect();
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
    };
    format!("{name} {}", operands.join(", "))
}
